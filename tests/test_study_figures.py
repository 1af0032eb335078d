"""What a study shows once its table is out: figures of known curves, a page in which no name can do anything, shares of variance."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import studies
from matplotlib import image
from matplotlib.figure import Figure

from dlrun.sinks.console import Console
from dlrun.study import aftermath, drawing, results
from dlrun.study.ledger import Ledger
from dlrun.study.page import page
from dlrun.study.plan import Cell, Goal, Job
from dlrun.study.space import Space, read_words

GOAL = Goal("val/accuracy", "max")
EVIL = "</script><script>alert('x')</script>\x1b[31m\"><img src=x onerror=alert(1)>$\\frac{"


def shown(number: int, value: float | None = 0.5, state: str = "finished", curves: Any = (), **params: Any) -> drawing.Shown:
    return drawing.Shown(number, params, state, value, None, curves)


def drawn(plan: Any, cells: list[drawing.Shown], keys: list[str]) -> Figure:
    figure = Figure()
    plan(figure, cells=cells, keys=keys, goal=GOAL)
    return figure


def test_a_curve_is_the_mean_of_its_seeds_within_their_band() -> None:
    curves = [[(0, 0.0), (10, 0.4), (20, 0.9)], [(0, 0.2), (10, 0.8)]]
    assert drawing.summed(curves) == ([0, 10], [0.1, pytest.approx(0.6)], [0.0, 0.4], [0.2, 0.8])
    axes = drawn(drawing.draw_curves, [shown(0, curves=curves, lr=0.1), shown(1, curves=curves, lr=0.2)], ["lr"]).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 0.1], [10, 0.6]])
    band = axes.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in np.round(band, 6)} == {(0, 0.0), (10, 0.4), (0, 0.2), (10, 0.8)}


def test_small_and_large_values_have_colours_of_their_own() -> None:
    scale = drawing.Scale("lr", [shown(n, lr=lr) for n, lr in enumerate([1e-4, 1e-2, 1.0])])
    assert scale.log and [scale.at(lr) for lr in (1e-4, 1e-2, 1.0)] == [0, pytest.approx(0.5), 1]
    assert len({scale.colour(lr) for lr in (1e-4, 1e-2, 1.0)}) == 3
    assert scale.ticks() == [(0.0, "0.0001"), (pytest.approx(0.5), "0.01"), (1.0, "1")]
    names = drawing.Scale("model", [shown(0, model="mlp"), shown(1, model="cnn")])
    assert not names.numeric and names.ticks() == [(0.0, "mlp"), (1.0, "cnn")]
    many = drawing.Scale("lr", [shown(n, lr=10 ** (-4 + n / 10)) for n in range(41)])
    assert [text for _, text in many.ticks()] == ["0.0001", "0.001", "0.01", "0.1", "1"]


def test_what_was_pruned_is_dotted_and_in_no_slice() -> None:
    cells = [
        shown(0, curves=[[(0, 0.1), (9, 0.5)]], lr=0.1),
        shown(1, None, "pruned", [[(0, 0.1), (3, 0.2)]], lr=0.2),
        shown(2, 0.6, lr=0.3),
    ]
    assert [line.get_linestyle() for line in drawn(drawing.draw_curves, cells, ["lr"]).axes[0].lines[:2]] == ["-", ":"]
    points = drawn(drawing.draw_slices, cells, ["lr"]).axes[0].lines
    assert sorted(float(line.get_ydata()[0]) for line in points) == [0.5, 0.6]


@pytest.mark.parametrize("plan, at", [(drawing.draw_slices, 0), (drawing.draw_parallel, -1)])
def test_the_best_is_marked_as_in_the_table(plan: Any, at: int) -> None:
    single = [shown(n, value, lr=n + 1.0, wd=1.0 - n) for n, value in enumerate([0.2, 0.9, 0.5, 0.9, 0.2])]
    several = [replace(cell, interval=(0.0, 1.0)) for cell in single]
    for cells, direction, best in ((several, "max", 1), (several, "min", 0), (single, "max", None)):
        figure = Figure()
        plan(figure, cells, ["lr", "wd"], Goal("val/x", direction))
        lines = [line for line in figure.axes[0].lines if line.get_color() == drawing.MARK]
        marked = {(float(line.get_xdata()[0]), float(line.get_ydata()[0]))[1 if at else 0] for line in lines}
        assert marked == (set() if best is None else {best / 4}), "of equal ones the first; with one seed a cell none"


def test_a_diverged_run_does_not_flatten_the_others() -> None:
    low, high = drawing.robust_limits([*np.linspace(0.5, 1.0, 100), 1e9])
    assert low < 0.5 and 1.0 < high < 3.0


def test_names_draw_as_they_are(tmp_path: Path) -> None:
    cells = [shown(n, 0.1 * n, curves=[[(0, 0.1), (5, 0.2)]], model=f"{EVIL}{n}", other=n) for n in range(3)]
    paths = drawing.draw_study(tmp_path / "figures", cells, GOAL, EVIL, {EVIL: 0.7, "other": 0.3})
    assert [path.name for path in paths] == ["curves.png", "slices.png", "parallel.png", "importances.png"]
    assert all(image.imread(path).std() > 0.01 for path in paths)


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    assert drawing.draw_study(tmp_path / "figures", [shown(0, None, "failed", lr=0.1)], GOAL, "empty") == []


# -- the page


class Tags(HTMLParser):
    """Elements and attributes that a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.names: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.names |= {name for name, _ in attrs}
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]


def finished(folder: Path, names: list[str], values: list[float]) -> Ledger:
    new = [Cell(n, {"model": name}, (Job(n, 0, f"cell: {n}\n", str(n)),)) for n, name in enumerate(names)]
    ledger = studies.ledger(folder, new)
    for value in values:
        job = ledger.take("a", 60)
        assert job
        ledger.read(job.id, job.attempt, 0, value / 2)
        ledger.finish(job.id, job.attempt, value, {"goal": ["val/accuracy", "max"], "step": 9, "metrics": {"val/accuracy": value}})
    return ledger


def test_no_name_does_anything_in_the_page(tmp_path: Path) -> None:
    ledger = finished(tmp_path, [EVIL, "mlp"], [0.5, 0.6])
    found = results.table(ledger, tmp_path, GOAL, 1.0)
    found["failures"] = [
        {"cell": 0, "seed": 0, "class": EVIL, "reason": EVIL, "log": EVIL + "\n" + EVIL, "run": str(tmp_path / "runs" / EVIL)}
    ]
    found["study"] = EVIL
    text, tags = page(found, [EVIL], [], tmp_path), Tags()
    tags.feed(text)
    assert tags.seen <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "div",
        "table",
        "tr",
        "th",
        "td",
        "ul",
        "li",
        "a",
        "pre",
    }
    assert not [name for name in tags.names if name.startswith("on")] and "\x1b" not in text
    assert all(re.fullmatch(r"[\w%./-]+", link) and link.startswith("runs/") for link in tags.links)
    assert "0.6000" in text and "mlp" in text


def test_the_page_stands_alone(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    ledger = finished(folder, ["mlp", "linear", "cnn"], [0.5, 0.6, 0.4])
    found = results.table(ledger, folder, GOAL, 1.0)
    screen = io.StringIO()
    space = Space((), read_words(["model=mlp,linear,cnn"]).axes)
    aftermath.tidy(found, folder, None, space, Console(stream=screen, live=False), draw=True, said=["said so"])
    text, tags = (folder / "results.html").read_text("utf-8"), Tags()
    tags.feed(text)
    images = [link for link in tags.links if not link.startswith("runs/")]
    assert len(images) == 2 and all(link.startswith("data:image/png;base64,") for link in images) and "script" not in tags.seen
    assert "said so" in text and "results.html" in screen.getvalue() and "not made" not in screen.getvalue()
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["curves.png", "slices.png"]


def test_what_fails_afterwards_is_told_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = finished(tmp_path, ["mlp", "linear"], [0.5, 0.6])
    found = results.table(ledger, tmp_path, GOAL, 1.0)
    screen = io.StringIO()
    (tmp_path / "figures").write_text("in the way")
    space = Space((), read_words(["model=mlp,linear"]).axes)
    monkeypatch.setattr(Ledger, "study", "study", raising=False)
    moved = tmp_path.rename(tmp_path.parent / "study")
    aftermath.tidy(found, moved, None, space, Console(stream=screen, live=False), draw=True, said=[])
    assert "figures: not made: FileExistsError" in screen.getvalue() and (moved / "results.html").is_file()


# -- importances


def test_what_decides_the_value_is_what_is_important(tmp_path: Path) -> None:
    axes = ("a=interval(0,1)", "b=interval(0,1)")
    draw = np.random.default_rng(0)
    points = draw.random((24, 2))
    new = [Cell(n, {"a": float(a), "b": float(b)}, (Job(n, 0, "", ""),)) for n, (a, b) in enumerate(points)]
    ledger = studies.ledger(tmp_path, new)
    space = Space((), read_words(axes).axes)
    for n, (a, b) in enumerate(points):
        job = ledger.take("me", 60)
        assert job and job.cell == n
        ledger.finish(job.id, job.attempt, 10 * a + 0.5 * b, {})
        if n == 10:
            assert aftermath.importances(ledger, space, GOAL) == {}, "too few to tell"
    found = aftermath.importances(ledger, space, GOAL)
    assert sum(found.values()) == pytest.approx(1) and found["a"] > 0.9
