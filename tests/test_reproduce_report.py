"""What a reproduction leaves to read: a page in which no name can do anything, and docs/results.md made anew from nothing."""

from __future__ import annotations

import json
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from architecture_rules import ROOT
from reproducing import TINY, experiment
from reproductions import document, evidence, sheet

from dlrun.cli import main
from dlrun.reproduce.figure import draw
from dlrun.reproduce.page import write
from dlrun.rundir import jsonable

sys.path.insert(0, str(ROOT / "scripts"))
import results_page

STEPS = [0, 10, 20, 30]
EVIL = "</script><script>alert('x')</script>\x1b[31m\"><img src=x onerror=alert(1)>$\\frac{`|"


class Tags(HTMLParser):
    """Elements, attributes, links and text that a browser would make of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.seen, self.names, self.links, self.text = set[str](), set[str](), list[str](), ""
        self.feed(path.read_text("utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def reported(folder: Path, **more: Any) -> tuple[Tags, dict[str, Any]]:
    """A page with everything on it, and the document it tells."""
    arms = {"wide": {"model.width": 64}, "narrow": {"model.width": 8, "optimizer": "sgd"}}
    claims = [
        'wide["val/loss"].final <= narrow["val/loss"].final',
        {"claim": "wide.good.happened >= 1", "control": True, "source": "the code works"},
    ]
    mine = sheet(
        "tiny", arms, 3, claims=claims, events={"good": "val/accuracy >= 0.8"}, measures={"gap": {"probe": "p", "runs": ["wide", "narrow"]}}
    )

    def curve(arm: str, point: Any, seed: int, metric: str) -> list[float] | None:
        return (
            None
            if (arm, seed) == ("narrow", 2) and more.get("missing")
            else [2.0, 1.5, 1.25, (0.5 if arm == "wide" else 1.0) + 0.01 * seed]
        )

    found = evidence(
        mine, ["val/loss"], STEPS, curve, events=lambda arm, _: {"good": 20} if arm == "wide" else {}, measures=lambda *_: {"far": 0.25}
    )
    told = document(mine, found, **more)
    return Tags(write(mine, found, told, draw(mine, found, told, folder / "figures"), folder)), told


def test_the_page_says_each_claim_seed_by_seed(tmp_path: Path) -> None:
    page, told = reported(tmp_path)
    assert told["verdict"] == "reproduced"
    for text in (
        "tiny: reproduced",
        "Source: Someone 2022, figure 1",
        'wide["val/loss"].final <= narrow["val/loss"].final',
        "0.5100 (95 %: 0.4852 to 0.5348) against 1.010 (95 %: 0.9852 to 1.035)",
        "seed left right margin 0 0.5000 1 0.5000 met 1 0.5100 1.010 0.5000 met",
        "mean margin, one-sided 95 % bounds: 0.5000 to 0.5000",
        "met (control: shows that the code works; no part of the verdict) wide.good.happened >= 1 the code works",
        "narrow model.width=8 optimizer=sgd",
        "good val/accuracy >= 0.8 wide 20 20 to 20 3 of 3",
        "good val/accuracy >= 0.8 narrow did not happen",
        "gap far 0.2500 3 of 3",
        "predicted for all of it: 2:30 on 2 cores; the 6 judging runs trained for 1:15 in all; this call took 42 s.",
        "0123456789abcdef0123456789abcdef01234567",
        "0 wide finished 30 12 s 1234",
    ):
        assert text in page.text, text


def test_the_page_says_what_is_not_as_it_should_be(tmp_path: Path) -> None:
    tuned = [{"arm": "wide", "point": {"depth": 2}, "values": [(0.01, 0.5), (0.1, 0.25)], "winner": 0.1, "edge": True}]
    page, told = reported(
        tmp_path,
        missing={"tiny narrow seed 2": "oom: out of memory"},
        tuned=tuned,
        recorded="not_reproduced",
        changed=["train.steps=3"],
        commits=[{"commit": "a" * 40, "dirty": True}, {"commit": "b" * 40, "dirty": False}],
        baseline={"ours": "a", "is": 0.5, "ours_mean": 0.9, "is_mean": 0.5, "lift": 0.4, "interval": [0.3, 0.5]},
    )
    assert told["verdict"] == "undecided"
    for text in (
        "On record is another verdict: not reproduced.",
        "Judged with train.steps=3 : not the experiment as it is recorded.",
        "seed 2: narrow has no run",
        "tiny narrow seed 2: oom: out of memory",
        "wide depth=2 0.5000 0.2500 0.1 at the edge of the grid",
        f"{'a' * 40} with changes",
        "The judging runs are of several commits.",
        "0.9000 against 0.5000: lift 0.4000 (95 %: 0.3000 to 0.5000)",
    ):
        assert text in page.text, text


def test_links_are_relative_and_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page, told = reported(Path("outputs/tiny"))
    runs = [link for link in page.links if not link.startswith("data:image/png;base64,")]
    assert runs == [f"{Path(run).name}/" for seed in (0, 1, 2) for run in told["runs"] if f"-s{seed}-" in run]
    assert len(page.links) == len(runs) + 1
    assert not page.seen & {"script", "link", "iframe", "object", "form", "style2"}


def test_no_name_does_anything_on_the_page(tmp_path: Path) -> None:
    mine = sheet(EVIL, {EVIL: {EVIL: EVIL}, "a": {}}, 1, claims=["a.steps > 9"], source=EVIL, tags=[EVIL], events={EVIL: "val/x > 0.5"})
    found = evidence(mine, ["val/x"], STEPS, lambda *_: [0.0, 0.5, 0.75, 1.0], events=lambda *_: {EVIL: 20})
    told = document(
        mine, found, missing={EVIL: EVIL}, changed=[EVIL], commits=[{"commit": EVIL}], baseline={"ours": EVIL, "is": EVIL, "lift": None}
    )
    page = Tags(write(mine, found, told, draw(mine, found, told, tmp_path), tmp_path))
    assert not page.seen & {"script", "iframe"} and not page.names & {"onerror", "onclick"}
    assert [link for link in page.links if link == "x"] == []
    assert "\x1b" not in (tmp_path / "report.html").read_text("utf-8")


# -- docs/results.md


def written(root: Path, name: str, told: dict[str, Any], **config: Any) -> None:
    """An output root with a verdict and its run directories, as far as the page reads them."""
    facts = {"cores": 2, "device": "cpu", "device_name": "x86_64", "platform": "Linux-6", "versions": {"torch": "2.13.0"}}
    for run in told["runs"]:
        place = root / name / Path(run).name
        place.mkdir(parents=True)
        (place / "summary.json").write_text(json.dumps({"seconds": 12.5}))
        (place / "manifest.json").write_text(json.dumps(facts))
        (place / "config.yaml").write_text(json.dumps({"tags": ["paper"], "source": "Someone 2022, figure 1", **config}))
    (root / name / "reproduce.json").write_text(json.dumps(jsonable(told)))


def cells(text: str) -> list[list[str]]:
    """The rows of the table."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.replace("\\|", "¦").strip("|").split(" |")] for row in rows[2:]]


def test_a_row_has_our_numbers_and_what_did_not_hold_stays(tmp_path: Path) -> None:
    mine = sheet("tiny", {"a": {}, "b": {}}, 3, claims=['a["val/loss"].final <= b["val/loss"].final', "every(a.steps > 9 or b.steps > 9)"])
    found = evidence(mine, ["val/loss"], STEPS, lambda arm, _, seed, __: [2.0, 1.5, 1.25, (1.0 if arm == "a" else 0.5) + 0.01 * seed])
    told = document(mine, found, recorded="not_reproduced")
    written(tmp_path, "tiny", told)
    first, second = cells(results_page.render(tmp_path))
    assert first == [
        "tiny",
        "paper",
        "Someone 2022, figure 1",
        '`a["val/loss"].final <= b["val/loss"].final`',
        "**not met**",
        "1.010 (95 %: 0.9852 to 1.035) against 0.5100 (95 %: 0.4852 to 0.5348); margin -0.5000 to -0.5000; 0 of 3 seeds",
        "**not reproduced**",
        "6 runs, 1:15",
        "2 cores x86\\_64, Linux, torch 2.13.0",
        "`0123456789`",
    ]
    assert second == ["", "", "", "`every(a.steps > 9 or b.steps > 9)`", "met", "3 of 3 seeds", "", "", "", ""]
    assert "1 experiment: 0 reproduced, 1 not reproduced, 0 undecided." in results_page.render(tmp_path)


def test_no_name_breaks_a_row(tmp_path: Path) -> None:
    mine = sheet("tiny", {"a": {}}, 1, claims=[{"claim": "a.steps > 9", "source": EVIL + "\n| x | [y](javascript:z)"}])
    told = document(mine, evidence(mine, ["val/x"], STEPS, lambda *_: STEPS), changed=[EVIL], commits=[{"commit": EVIL, "dirty": True}])
    written(tmp_path, "tiny", told, tags=[EVIL], source=EVIL)
    (row,) = cells(results_page.render(tmp_path))
    assert len(row) == len(results_page.COLUMNS)
    assert not any("<" in cell.replace("&lt;", "") for i, cell in enumerate(row) if i not in (3, 6, 9))
    assert "\\[y\\]" in row[2] and all(row[i].count("`") % 2 == 0 for i in (3, 6, 9))


def test_the_page_is_written_compared_and_refused_in_one_line(tmp_path: Path, capsys: Any) -> None:
    mine = sheet("tiny", {"a": {}}, 1, claims=["a.steps > 9"])
    written(tmp_path / "outputs", "tiny", document(mine, evidence(mine, ["val/x"], STEPS, lambda *_: STEPS)))
    words = [str(tmp_path / "outputs"), "--out", str(tmp_path / "results.md")]
    assert results_page.main([*words, "--check"]) == 1
    assert results_page.main(words) == 0
    assert results_page.main([*words, "--check"]) == 0
    capsys.readouterr()
    assert results_page.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "other.md")]) == 3
    for run in (tmp_path / "outputs" / "tiny").glob("2026*"):
        shutil.rmtree(run)
    assert results_page.main(words) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "no */reproduce.json" in said[0] and "config.yaml" in said[1]
    assert not (tmp_path / "other.md").exists()


def rebuilt(folder: Path) -> list[list[str]]:
    """Two experiments trained from nothing, judged, and told: the rows, without the time the training took and the checkout's commit."""
    words = ["--config-dir", str(folder / "conf"), f"output_root={folder / 'outputs'}", "--json"]
    assert main(["reproduce", "first", "second", *words]) == 1
    rows = cells(results_page.render(folder / "outputs"))
    return [[cell for cell, name in zip(row, results_page.COLUMNS, strict=True) if name not in ("training", "commit")] for row in rows]


def test_two_rows_are_rebuilt_from_nothing(tmp_path: Path, capsys: Any) -> None:
    small = {**TINY, "tags": ["toy"], "source": "nobody"}
    experiment(tmp_path, small, "first")
    experiment(tmp_path, {**small, "claims": ['wide["val/loss"].final > 9'], "arms": {"wide": {"model.width": 16}}}, "second")
    before = rebuilt(tmp_path)
    shutil.rmtree(tmp_path / "outputs")
    assert rebuilt(tmp_path) == before
    first, second = before
    assert first[:5] == ["first", "toy", "nobody", '`wide["val/loss"].final < 9`', "met"] and first[6] == "reproduced"
    assert second[4] == "**not met**" and second[6].startswith("**not reproduced**")
    assert "against 9; margin" in first[5] and first[5].endswith("2 of 2 seeds")
