"""docs/mutations.md: every claim judged where its effect is destroyed. A claim that is met there as well would say nothing.

`scripts/mutations` runs this. For each mutation in `conf/experiment/` it copies the experiment with the claims that name it and the arms
they read, lets `dlrun reproduce` train and judge that under the mutation, and writes down the verdicts; they have to be `not_met`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dlrun.claims import tree
from dlrun.claims.forms import names_of
from dlrun.claims.language import parse
from dlrun.config.reading import read as read_yaml
from dlrun.rundir import read_json, write_atomic
from dlrun.sinks.terminal import duration
from dlrun.study.space import text_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "mutations.md"
RECIPES = ROOT / "conf" / "experiment"
COLUMNS = ("experiment", "claim", "mutation", "judged", "seeds", "our numbers")

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_page import SIGNS, code, numbers, plain  # noqa: E402  (scripts are no package)


def experiments() -> dict[str, Mapping[str, Any]]:
    """The experiments with claims, as their YAML says."""
    found = {path.stem: _recipe(path) for path in sorted(RECIPES.glob("*.yaml"))}
    return {name: config for name, config in found.items() if config.get("claims")}


def _recipe(path: Path) -> dict[str, Any]:
    """Its values as dlrun reads them, with its defaults list."""
    return {"defaults": yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"], **read_yaml(str(path)).values}


def mutations(config: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Each mutation with the claims that must not survive it."""
    found: list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = []
    for claim in config["claims"]:
        wanted = claim.get("mutation") if isinstance(claim, Mapping) else None
        if not wanted:
            continue
        same = next((claims for mutation, claims in found if mutation == wanted), None)
        found += [] if same is not None else [(wanted, [])]
        (found[-1][1] if same is None else same).append(claim)
    return found


def overrides(mutation: Mapping[str, Any]) -> list[str]:
    """As the command line takes them."""
    return [f"{key}={text_of(value)}" for key, value in mutation.items()]


def reduced(config: Mapping[str, Any], claims: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The experiment with these claims alone, and with the arms and measures they read."""
    names = names_of(config)
    nodes = [node for claim in claims for node in tree.walk(parse(claim, names, config.get("source") or "").tree)]
    measures = {
        name: one for name, one in (config.get("measures") or {}).items() if any(getattr(node, "measure", None) == name for node in nodes)
    }
    needed = {getattr(node, "arm", None) for node in nodes} | {arm for one in measures.values() for arm in one["runs"]}
    arms = config.get("arms") or {}
    while more := {arms[arm]["start"]["from"] for arm in needed & set(arms) if (arms[arm].get("start") or {}).get("from") in arms} - needed:
        needed |= more
    kept = {
        key: value for key, value in config.items() if key not in ("baseline", "figure", "recorded", "cost", "claims", "measures", "arms")
    }
    kept |= {"arms": {name: value for name, value in arms.items() if name in needed}} if arms else {}
    return kept | {"claims": list(claims)} | ({"measures": measures} if measures else {})


def judge(name: str, config: Mapping[str, Any], root: Path, seeds: int | None) -> Iterator[dict[str, Any]]:
    """Train and judge every mutation of an experiment; a row a claim. Raises RuntimeError where `dlrun reproduce` says no verdict."""
    for i, (mutation, claims) in enumerate(mutations(config)):
        words = overrides(mutation)
        found = _reproduced(f"{name}_mutation_{i}", reduced(config, claims), words, root, seeds)
        for claim, judged in zip(claims, found["claims"]):
            yield {"experiment": name, "mutation": dict(mutation), "claim": claim["claim"], "judged": judged, "seconds": found["seconds"]}


def _reproduced(name: str, config: Mapping[str, Any], words: Sequence[str], root: Path, seeds: int | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "experiment" / f"{name}.yaml"
        recipe.parent.mkdir()
        recipe.write_text("# @package _global_\n# Without its effect.\n" + yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
        asked = ["reproduce", name, *words, f"output_root={text_of(str(root))}", "--config-dir", folder]
        asked += ["--seeds", str(seeds)] if seeds else []
        done = subprocess.run([sys.executable, "-m", "dlrun", *asked], capture_output=True, text=True, check=False, cwd=root)
    verdict = root / name / "reproduce.json"
    if done.returncode not in (0, 1, 4) or not verdict.is_file():
        raise RuntimeError(f"dlrun {' '.join(asked)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
    return read_json(verdict)


def stored(root: Path, known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a claim as it stands: the verdict that lies in `root` for this text and this mutation, None where there is none."""
    rows = []
    for name, config in known.items():
        file = root / f"{name}.json"
        there = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        for mutation, claims in mutations(config):
            for claim in claims:
                row = {"experiment": name, "mutation": dict(mutation), "claim": claim["claim"]}
                found = (one["judged"] for one in there if all(one[key] == value for key, value in row.items()))
                rows.append({**row, "judged": next(found, None)})
    return rows


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page."""
    fallen = sum(row["judged"] is not None and row["judged"]["verdict"] == "not_met" for row in rows)
    lines = [
        "# Mutations",
        "",
        "Each claim of `conf/experiment/` names overrides that destroy its effect. Under them it has to be judged not met: a claim that",
        "holds there too would say nothing. `scripts/mutations` trains and judges them and writes this page; what the claims come to as",
        "they stand is in [results.md](results.md).",
        "",
        f"{len(rows)} claims: {fallen} judged not met under their mutation, {sum(row['judged'] is None for row in rows)} not run yet.",
        "",
        *(f"| {' | '.join(row)} |" for row in (COLUMNS, ["---"] * len(COLUMNS), *map(_row, rows))),
    ]
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, Any]) -> list[str]:
    judged = row["judged"]
    cells = [plain(row["experiment"]), code(row["claim"]), code(" ".join(overrides(row["mutation"])))]
    if judged is None:
        return [*cells, "not run", "", ""]
    sign = {"not_met": "not met", "met": "**met**"}.get(judged["verdict"], f"**{SIGNS[judged['verdict']]}**")
    return [*cells, sign, str(len(judged["per_seed"])), numbers(judged)]


def main() -> int:
    """Exit code 1 where a claim survives its mutation."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutations", description="Every claim judged without its effect; writes docs/mutations.md."
    )
    parser.add_argument("names", nargs="*", help="experiments; without any, all (hours on two cores)")
    parser.add_argument(
        "--root", type=Path, default=ROOT / "outputs" / "mutations", help="where runs and verdicts are kept (outputs/mutations)"
    )
    parser.add_argument("--seeds", type=int, help="seeds of each instead of the experiment's own")
    parser.add_argument("--page-only", action="store_true", help="write the page from the verdicts that are there")
    given = parser.parse_args()
    known = experiments()
    if wrong := [name for name in given.names if name not in known]:
        parser.error(f"no experiment {', '.join(wrong)}; there are {', '.join(known)}")
    root = given.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    for name in [] if given.page_only else given.names or known:
        rows = list(judge(name, known[name], root, given.seeds))
        write_atomic(root / f"{name}.json", json.dumps(rows, indent=1))
        for row in rows:
            print(f"{name}: {row['judged']['verdict']}: {row['claim']}  ({duration(row['seconds'])})", flush=True)
    found = stored(root, known)
    write_atomic(PAGE, render(found))
    return int(any(row["judged"] is not None and row["judged"]["verdict"] != "not_met" for row in found))


if __name__ == "__main__":
    sys.exit(main())
