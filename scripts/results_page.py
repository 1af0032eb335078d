"""docs/results.md: what `dlrun reproduce` found, a row a claim, from the verdicts and run directories in an output root.

`scripts/results` runs this. A verdict is `<root>/<experiment>/reproduce.json`; tags, training time and machine are read from its runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrun.config.reading import read as read_yaml
from dlrun.errors import MissingError, UsageError
from dlrun.reproduce.words import claim_words, counted, sides, span_words
from dlrun.rundir import read_json, read_manifest, write_atomic
from dlrun.sinks.terminal import clean, duration

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
COLUMNS = ("experiment", "tags", "source", "claim", "judged", "our numbers", "verdict", "training", "machine", "commit")
SIGNS = {"met": "met", "not_met": "**not met**", "undecided": "undecided"}


def experiments(root: Path) -> dict[str, dict[str, Any]]:
    """Every verdict below `root`, by name. Raises MissingError for one that cannot be read."""
    return {path.parent.name: read_json(path) for path in sorted(root.glob("*/reproduce.json"))}


def runs_of(root: Path, name: str, found: Mapping[str, Any]) -> list[Path]:
    """Its runs, also where the output root was moved since."""
    paths = [Path(run) for run in found["runs"]]
    return [path if path.is_dir() else root / name / path.name for path in paths]


def rows_of(root: Path, name: str, found: Mapping[str, Any]) -> list[list[str]]:
    """The rows of an experiment; what is said of all of it stands in the first. Raises MissingError where a run is gone or damaged."""
    runs = runs_of(root, name, found)
    config = _config(runs[0]) if runs else {}
    verdict = found["verdict"].replace("_", " ")
    said = [f"**{verdict}**" if verdict != "reproduced" else verdict]
    said += [f"on record: {found['recorded'].replace('_', ' ')}"] if found["recorded"] != found["verdict"] else []
    said += [f"judged with {code(' '.join(found['changed']))}"] if found["changed"] else []
    seconds = sum(float(read_json(run / "summary.json").get("seconds") or 0.0) for run in runs)
    recipe = f"conf/experiment/{name}.yaml"
    first = [
        f"[{plain(name)}](../{recipe})" if (PAGE.parents[1] / recipe).is_file() else plain(name),
        plain(", ".join(map(str, config.get("tags") or []))),
        plain(config.get("source") or ""),
        "; ".join(said),
        f"{len(runs)} runs, {duration(seconds)}",
        plain(" and ".join(dict.fromkeys(_machine(run) for run in runs))),
        ", ".join(_commit(facts) for facts in found["commits"]) or "?",
    ]
    return [_row(claim, first if not i else [""] * len(first), config) for i, claim in enumerate(found["claims"])]


def _row(claim: Mapping[str, Any], first: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    name, tags, source, verdict, training, machine, commit = first
    own = plain(claim["source"]) if claim["source"] and claim["source"] != config.get("source") else ""
    control = " (control)" if claim.get("control") else ""
    return [
        name,
        tags,
        own or source,
        code(claim["claim"]),
        SIGNS[claim["verdict"]] + control,
        numbers(claim),
        verdict,
        training,
        machine,
        commit,
    ]


def numbers(claim: Mapping[str, Any]) -> str:
    """Ours against what is claimed, means with 95 % intervals; the bounds of the mean margin; in how many seeds it holds."""
    margin = f"margin {span_words(claim['interval'])}" if claim["interval"] else ""
    why = claim_words(claim) if claim["verdict"] == "undecided" else ""
    return plain(why or "; ".join(filter(None, [sides(claim), margin, counted(claim)])))


def _config(run: Path) -> Mapping[str, Any]:
    try:
        return read_yaml(str(run / "config.yaml")).values
    except (UsageError, OSError) as error:
        raise MissingError(f"{run / 'config.yaml'}: {error}") from None


def _machine(run: Path) -> str:
    facts = read_manifest(run)
    device = f"{facts.get('cores')} cores {facts.get('device_name')}" if facts.get("device") == "cpu" else f"{facts.get('device_name')}"
    return f"{device}, {str(facts.get('platform')).partition('-')[0]}, torch {(facts.get('versions') or {}).get('torch')}"


def _commit(facts: Mapping[str, Any]) -> str:
    return code(str(facts.get("commit"))[:10]) + (" with changes" if facts.get("dirty") else "")


def plain(text: object) -> str:
    """Text in a cell: nothing in it is Markdown or HTML."""
    cell = clean(" ".join(str(text).split()))
    for sign in "\\`*_[]|~":
        cell = cell.replace(sign, "\\" + sign)
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")


def code(text: str) -> str:
    """Text in a cell, letter by letter."""
    return f"`{clean(' '.join(text.split())).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def render(root: Path) -> str:
    """The page. Raises MissingError."""
    found = experiments(root)
    verdicts = [one["verdict"] for one in found.values()]
    counts = ", ".join(f"{verdicts.count(name)} {name.replace('_', ' ')}" for name in ("reproduced", "not_reproduced", "undecided"))
    return "\n".join([*_intro(counts, len(found)), *_table(row for name, one in found.items() for row in rows_of(root, name, one))]) + "\n"


def _intro(counts: str, total: int) -> list[str]:
    return [
        "# Results",
        "",
        "What the experiments in `conf/experiment/` claim, from which source, and what came of it here. `dlrun reproduce NAME` trains what",
        "is missing and judges; `scripts/results` writes this page from its verdicts and run directories. What did not hold stays.",
        "",
        "Numbers are means over seeds with 95 % intervals, left against right side of the comparison; the margin is by how much it holds,",
        "with the one-sided 95 % bounds that decide. Training is the time of all judging runs, one after another. The commit is that of",
        "the checkout when they were trained: each run's own config holds the claim it is judged by.",
        "",
        f"{total} experiment{'s' * (total != 1)}: {counts}.",
        "",
    ]


def _table(rows: Iterator[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (list(COLUMNS), ["---"] * len(COLUMNS), *rows)]


def main(words: Sequence[str] | None = None) -> int:
    """Write the page; with `--check` only compare."""
    parser = argparse.ArgumentParser("scripts/results", description="Writes docs/results.md from what `dlrun reproduce` left in a folder.")
    parser.add_argument("root", nargs="?", type=Path, default=Path("outputs"), help="the output root (outputs)")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page (docs/results.md)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where the page is not what the folder gives")
    asked = parser.parse_args(words)
    if not any(asked.root.glob("*/reproduce.json")):
        print(f"error: {asked.root} holds no */reproduce.json; dlrun reproduce writes them into its output root", file=sys.stderr)
        return 3
    try:
        text = render(asked.root)
    except MissingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    if asked.check:
        same = asked.out.is_file() and asked.out.read_text("utf-8") == text
        print(f"{asked.out} is {'up to date' if same else f'not what {asked.root} gives: run scripts/results'}")
        return 0 if same else 1
    write_atomic(asked.out, text)
    print(f"{asked.out}: {text.count(chr(10) + '| ') - 2} claims of {len(experiments(asked.root))} experiments")
    return 0


if __name__ == "__main__":
    sys.exit(main())
