"""The figure of a reproduction: every number drawn is known, every text can be read, whatever the experiment looks like."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from reproduction_cases import (
    ACCURACIES,
    CASES,
    NAMES,
    STEPS,
    Case,
    diverged,
    empty,
    grokking,
    hostile,
    many,
    measured,
    numbered,
    rise,
    shaded,
    transfer,
)
from reproductions import document, evidence, sheet

from dlrun.functional.student import interval
from dlrun.reproduce.bands import band
from dlrun.reproduce.figure import MOST_PANELS, draw
from dlrun.reproduce.layout import WIDE, Picture
from dlrun.reproduce.painting import bands_of
from dlrun.reproduce.scene import Scene
from dlrun.reproduce.shown import panels
from dlrun.sinks.paint import DOTS_PER_INCH, STYLE


def drawn(case: Case) -> tuple[Picture, Figure]:
    mine, found = case
    picture = Picture(mine, found, document(mine, found), panels(mine, found)[:MOST_PANELS], with_claims=True)
    with rc_context(STYLE):
        figure = Figure(dpi=DOTS_PER_INCH)
        picture.draw(figure)
    return picture, figure


def lines(axes: Any, count: int | None = None) -> list[Any]:
    """The curves of a panel: lines of more than two points."""
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def said(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def texts(figure: Figure) -> list[Any]:
    """Everything that is written, but what is empty."""
    found = list(figure.texts)
    for axes in figure.axes:
        found += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            found += [tick.label1 for tick in ticks if min(low, high) <= tick.get_loc() <= max(low, high)]
    return [text for text in found if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("name", CASES)
def test_no_text_is_cut_off_or_touches_another(name: str) -> None:
    _, figure = drawn(CASES[name]())
    with rc_context(STYLE):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        wide, high = (size * DOTS_PER_INCH for size in figure.get_size_inches())
        assert wide == WIDE * DOTS_PER_INCH
        ends = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure)]
    for text, box in ends:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= wide + 1 and box.y1 <= high + 1, f"cut off: {text!r}"
    for (one, first), (other, second) in itertools.combinations(ends, 2):
        apart = first.x1 <= second.x0 + 1 or second.x1 <= first.x0 + 1 or first.y1 <= second.y0 + 4 or second.y1 <= first.y0 + 4
        assert apart, f"{one!r} touches {other!r}"


def test_a_line_is_the_mean_of_its_seeds_within_the_band_they_span() -> None:
    _, figure = drawn(grokking())
    train = figure.axes[0]
    curves = np.array([rise(100 + 10 * seed, 10) for seed in range(5)])
    for line in lines(train):
        np.testing.assert_allclose(line.get_xydata(), np.stack([STEPS, curves.mean(0)], axis=1))
    band = {tuple(np.round(point, 9)) for point in train.collections[0].get_paths()[0].vertices}
    assert {(step, round(value, 9)) for step, value in zip(STEPS, curves.min(0))} <= band
    assert {(step, round(value, 9)) for step, value in zip(STEPS, curves.max(0))} <= band
    assert "Line: mean of 5 seeds; band: from the lowest to the highest" in said(figure)


def test_events_stand_at_the_median_seed_with_their_range_and_their_name() -> None:
    _, figure = drawn(grokking())
    train = figure.axes[0]
    marks = {line.get_xdata()[0]: line for line in train.lines if len(line.get_xdata()) == 2}
    assert sorted(marks) == [250, 800]
    assert sorted(text.get_text() for text in train.texts) == ["generalised (4 of 5)", "memorised", "memorised"]
    ranges = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in train.patches)
    assert ranges == [(150, 350), (150, 350), (800, 800)]
    assert "generalised happened in no run of no_decay." in said(figure)


def test_one_seed_has_no_band_and_says_so() -> None:
    _, figure = drawn(grokking(1))
    assert not figure.axes[0].collections and "One seed: no band." in said(figure)


def test_log_is_what_the_figure_key_says() -> None:
    _, figure = drawn(CASES["log"]())
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]
    assert all(line.get_xdata()[0] == 50 for line in lines(figure.axes[0]))  # step 0 has no place on it
    assert [axes.get_xscale() for axes in drawn(grokking())[1].axes] == ["linear", "linear"]


def test_splits_have_panels_of_their_own_side_by_side_on_one_scale() -> None:
    mine, found = grokking()
    assert [panel.title for panel in panels(mine, found)] == ACCURACIES
    train, test = drawn((mine, found))[1].axes
    assert train.get_ylim() == test.get_ylim()


def test_against_an_axis_each_arm_has_its_panel_and_the_lowest_is_starred() -> None:
    picture, figure = drawn(transfer())
    assert [panel.title for panel in picture.panels] == [
        "plain: train/loss",
        "spectral: train/loss",
        "third: train/loss",
        "lr of the lowest train/loss",
    ]
    plain = figure.axes[0]
    stars = [tuple(line.get_xydata()[0]) for line in plain.lines if line.get_marker() == "*"]
    assert stars == [(0.1, pytest.approx(1.1)), (0.01, pytest.approx(1.1)), (0.001, pytest.approx(1.1))]
    assert plain.get_xscale() == "log"
    span = interval([1.0, 1.1, 1.2])
    bars = [line.get_xydata() for line in plain.lines if line.get_marker() != "*" and len(line.get_xdata()) == 2]
    assert any(np.allclose(bar, [[0.1, span[0]], [0.1, span[1]]]) for bar in bars if span)


def test_values_over_decades_may_be_0_at_some_points() -> None:
    mine = sheet("zeros", {"a": {}}, 2, axes={"lr": {"optimizer.lr": [0.1, 1.0, 10.0]}}, claims=['at(a["val/kept"].final, lr=0.1) > 0'])
    found = evidence(mine, ["val/kept"], [0, 100], lambda arm, point, seed, metric: [0.5, {0.1: 0.9, 1.0: 0.001, 10.0: 0.0}[point["lr"]]])
    axes = drawn((mine, found))[1].axes[0]
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log" and 0.0003 < low < 0.001 and 0.9 < high < 3


def test_where_the_best_lies_is_what_the_claims_read() -> None:
    _, figure = drawn(transfer())
    plain, spectral, _ = lines(figure.axes[3])
    np.testing.assert_allclose(plain.get_xydata(), [[32, 0.1], [64, 0.01], [128, 0.001]])
    np.testing.assert_allclose(spectral.get_ydata(), [0.01] * 3)


def test_a_point_with_a_seed_that_diverged_has_a_cross_and_no_star() -> None:
    _, figure = drawn(transfer())
    crosses = [line for line in figure.axes[2].lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[0.1]]
    assert "Cross at the top: a seed of this line has no value there" in said(figure)
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "x"]


def test_rows_of_measures_say_mean_and_interval() -> None:
    picture, figure = drawn(measured())
    assert [(panel.form, panel.title) for panel in picture.panels] == [("dots", "barrier"), ("dots", "midpoint")]
    low, high = interval([0.06 + 0.001 * seed for seed in range(5)]) or (0, 0)
    assert next(text.get_text() for text in figure.axes[0].texts) == f"0.0620 ± {(high - low) / 2:.4f}"
    assert any(np.allclose(line.get_xydata(), [[low, 0], [high, 0]]) for line in figure.axes[0].lines if len(line.get_xdata()) == 2)


def test_numbered_numbers_of_measures_are_a_line_each() -> None:
    picture, figure = drawn(numbered())
    first = picture.panels[0]
    assert (first.form, first.title, first.owners) == ("numbered", "accuracy_at_*", ("far", "near"))
    far, near = (line.get_xydata() for line in figure.axes[0].lines[:2])
    np.testing.assert_allclose(far, [[0, 0.9], [0.5, 0.42], [1, 0.8]])
    np.testing.assert_allclose(near, [[0, 0.9], [1, 0.7]])


def test_curves_begin_where_the_figure_key_says() -> None:
    _, figure = drawn(numbered())
    low, high = figure.axes[1].get_ylim()
    assert figure.axes[1].lines[0].get_xdata().tolist() == [20, 30] and low > 0 and high < 3


def test_a_seed_that_diverged_is_drawn_to_a_cross_and_in_no_mean() -> None:
    mine, found = diverged()
    cold, lava = (band(found, arm, (), "train/loss", False) for arm in ("cold", "lava"))
    assert (cold.seeds, lava.seeds) == (5, 1)
    assert list(cold.mean) == [4.0] * 21 and list(lava.mean) == [2.0] * 21
    assert [one.seed for one in lava.alone] == [1, 2, 3, 4]
    _, figure = drawn((mine, found))
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [250] * 4
    assert "Thin line to a red cross: a seed that diverged, in no mean." in said(figure)


def test_a_wild_curve_does_not_flatten_the_others() -> None:
    mine = sheet("wild", {"a": {}, "b": {}}, claims=['a["train/loss"].final <= b["train/loss"].final'])

    def curve(arm: str, point: Any, seed: int, metric: str) -> list[float]:
        return [2.0 - step / 1000 for step in STEPS] if arm == "a" or seed else [-1.0, 1e30, *[math.nan] * 19]

    _, figure = drawn((mine, evidence(mine, ["train/loss"], STEPS, curve)))
    assert figure.axes[0].get_ylim()[1] < 10


def test_twelve_arms_look_all_different_and_their_events_are_rows() -> None:
    _, figure = drawn(many(60))
    looks = {(to_hex(line.get_color()), line.get_linestyle(), str(line._dash_pattern)) for line in lines(figure.axes[0])}
    assert len(looks) == 12
    assert [text.get_text() for text in figure.axes[0].texts] == ["half", "late"]


def test_many_values_are_averaged_over_stretches() -> None:
    _, found = many(2000)
    one = band(found, NAMES[3], (), "test/accuracy", False)
    assert one.binned and len(one.steps) == 160
    first = [found[seed].arms[NAMES[3]][()] for seed in range(3)]
    whole = np.array([run.series["test/accuracy"].values for run in first if run])
    bins = np.minimum(160 * np.arange(2000) // 1999, 159)
    np.testing.assert_allclose(one.mean, [whole[:, bins == i].mean() for i in range(160)])


def test_what_no_run_logged_is_said() -> None:
    mine, found = empty()
    _, figure = drawn((mine, found))
    assert [text.get_text() for text in figure.axes[0].texts] == ["not there", "not there"]
    other = sheet("half", {"a": {}}, figure={"y": ["test/accuracy", "val/nothing"]}, claims=['a["test/accuracy"].final > 2'])
    _, figure = drawn((other, evidence(other, ["test/accuracy"], STEPS, lambda *_: rise(500, 50))))
    assert [text.get_text() for text in figure.axes[1].texts] == ["not there"]


def test_claims_stand_beneath_with_verdict_and_numbers() -> None:
    _, figure = drawn(grokking())
    words = said(figure)
    for text in ("✓ met", 'no_decay["test/accuracy"].final < 0.05', "5 of 5 seeds", "0.01200 (95 %: 0.01004 to 0.01396) against 0.05000"):
        assert text in words, words


def test_names_are_drawn_letter_by_letter(tmp_path: Path) -> None:
    mine, found = hostile()
    (path,) = draw(mine, found, document(mine, found), tmp_path / "figures")
    assert path.name == "figure.png" and image.imread(path).std() > 0.01
    _, figure = drawn((mine, found))
    assert "\\frac{" in said(figure) and "_a\\$b\\$" in said(figure)


def test_panels_beyond_six_go_into_another_picture(tmp_path: Path) -> None:
    metrics = [f"val/m{i}" for i in range(7)]
    mine = sheet("wide", {"a": {}}, 2, figure={"y": metrics}, claims=['a["val/m0"].final > 2'])
    found = evidence(mine, metrics, STEPS, lambda *_: rise(500, 50))
    assert [path.name for path in draw(mine, found, document(mine, found), tmp_path)] == ["figure.png", "figure-2.png"]


def test_shades_tell_points_of_an_arm_apart() -> None:
    picture, figure = drawn(shaded())
    assert len({to_hex(line.get_color()) for line in lines(figure.axes[0])}) == 6
    scene: Scene = picture.scene
    assert len(bands_of(picture.panels[0], scene)) == 6


def test_a_figure_of_facts_and_of_event_steps() -> None:
    claims: Sequence[str] = ["a.parameters <= b.parameters", "slope(a.half.step, log(width)) >= 0", "b.seconds >= 0"]
    mine = sheet(
        "facts", {"a": {}, "b": {}}, 3, axes={"width": {"model.width": [8, 16, 32]}}, events={"half": "val/x > 0.5"}, claims=[claims[1]]
    )
    found = evidence(mine, ["val/x"], STEPS, lambda *_: rise(500, 50), events=lambda arm, seed: {"half": 500 + seed})
    _, figure = drawn((mine, found))
    assert list(lines(figure.axes[0])[0].get_ydata()) == [501.0] * 3
    other = sheet("facts", {"a": {}, "b": {}}, 3, claims=[claims[0], claims[2]])
    picture, _ = drawn((other, evidence(other, ["val/x"], STEPS, lambda *_: rise(500, 50))))
    assert [panel.title for panel in picture.panels] == ["parameters", "seconds"]
