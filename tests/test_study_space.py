"""Studies before anything runs: axes, conditions, pairs, what is refused, and cells that are frozen."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dlrun.config import compose
from dlrun.config.dump import dump
from dlrun.errors import UsageError
from dlrun.study.asking import Asked, ask, identity, read_options, space_of
from dlrun.study.differences import different
from dlrun.study.freezing import Errors, note, told
from dlrun.study.measured import refuse_unmeasured
from dlrun.study.plan import Goal, Question
from dlrun.study.space import read_words, text_of


def asked(*words: str, **options: str) -> Asked:
    return ask(["dataset=moons", *words], options)


def refused(*words: str, **options: str) -> str:
    with pytest.raises(UsageError) as error:
        asked(*words, **options)
    return "\n".join(error.value.lines)


def params(found: Asked) -> list[dict[str, object]]:
    return [cell.params for cell in found.cells]


def test_a_grid_is_every_combination_with_the_last_axis_fastest() -> None:
    found = asked("model=mlp", "optimizer.lr=1e-4,3e-4", "model.width=choice(8,16,32)")
    assert params(found) == [{"optimizer.lr": lr, "model.width": width} for lr in (1e-4, 3e-4) for width in (8, 16, 32)]
    assert [cell.number for cell in found.cells] == [0, 1, 2, 3, 4, 5]
    assert found.question.search == "grid" and found.question.seeds == (0,)


@pytest.mark.parametrize(
    "word, values",
    [
        ("train.steps=range(5)", [0, 1, 2, 3, 4]),
        ("train.steps=range(10,40,10)", [10, 20, 30]),
        ("optimizer.lr=sort(3e-3,1e-3)", [1e-3, 3e-3]),
        ("optimizer.weight_decay=range(0,1,0.25)", [0.0, 0.25, 0.5, 0.75]),
        ("train.clip_norm=null,1.0", [None, 1.0]),
    ],
)
def test_hydra_s_ways_to_list_values(word: str, values: list[object]) -> None:
    assert [next(iter(cell.params.values())) for cell in asked(word).cells] == values


def test_seeds_are_repetitions_inside_every_cell() -> None:
    found = asked("optimizer.lr=1e-3,1e-2", "seed=range(3)")
    assert [[job.seed for job in cell.jobs] for cell in found.cells] == [[0, 1, 2], [0, 1, 2]]
    assert found.question.seeds == (0, 1, 2) and params(found) == [{"optimizer.lr": 1e-3}, {"optimizer.lr": 1e-2}]
    alone = asked("seed=3,5")
    assert len(alone.cells) == 1 and alone.question.seeds == (3, 5)


def test_a_cell_is_frozen_as_train_would_compose_it() -> None:
    found = asked("optimizer.lr=1e-3,1e-2", "model=mlp,linear", "seed=1,2")
    for cell in found.cells:
        for job in cell.jobs:
            words = [f"{key}={text_of(value)}" for key, value in cell.params.items()]
            assert job.text == dump(compose(["dataset=moons", *words, f"seed={job.seed}"]).saved)
            assert job.sha256 == sha256(job.text.encode()).hexdigest()
    assert len({job.sha256 for cell in found.cells for job in cell.jobs}) == 8


def test_parts_are_swept_with_the_rule_of_slots() -> None:
    assert "model cnn has" in refused("model=mlp,cnn", "model.width=8,16")
    assert params(asked("model=mlp,linear")) == [{"model": "mlp"}, {"model": "linear"}]


def test_errors_are_counted_by_their_whole_line() -> None:
    errors = Errors()
    for line in ("x: found 10", "x: found 1", "x: found 1"):
        note(errors, [], UsageError(line))
    assert told(errors) == ["x: found 10", "x: found 1 (in 2 cells)"]


def test_everything_wrong_is_told_at_once_and_each_once() -> None:
    lines = refused("model.width=8,-4", "optimizer.lr=a,1e-3", "trian.steps=1,2").splitlines()
    assert sum("model.width=-4: expected an integer >= 1" in line for line in lines) == 1
    assert sum("optimizer.lr=a: expected a number" in line for line in lines) == 1
    assert any("trian.steps=1: unknown key" in line for line in lines)


@pytest.mark.parametrize(
    "words, options, part",
    [
        (["model=mlp"], {}, "nothing varies"),
        (["optimizer.lr=1,1"], {}, "the same value twice"),
        (["optimizer.lr=interval(1e-1,1e-4)"], {"trials": "3"}, "the smaller end first"),
        (["optimizer.lr=tag(log,interval(0,1))"], {"trials": "3"}, "begins above 0"),
        (["optimizer.lr=tag(lgo,interval(1,2))"], {"trials": "3"}, "expected log"),
        (["optimizer.lr=interval(1e-4,1e-1)"], {}, "say --trials N"),
        (["optimizer.lr=interval(1e-4,1e-1)"], {"search": "grid"}, "no points for a grid"),
        (["optimizer.lr=interval(1e-4,1e-1)"], {"trials": "-3"}, "expected a whole number"),
        (["optimizer.lr=1e-4,1e-3"], {"search": "grid", "trials": "1"}, "leave --trials away"),
        (["optimizer.lr=1e-4,1e-3"], {"search": "tpee", "trials": "4"}, "did you mean tpe"),
        (["optimizer.lr=1e-4,1e-3"], {"goal": "test/accuracy:max"}, "never chooses"),
        (["optimizer.lr=1e-4,1e-3"], {"goal": "accuracy"}, "expected val/METRIC"),
        (["optimizer.lr=1e-4,1e-3"], {"goal": "val/accuracy"}, "which is better"),
        (["seed=interval(0,4)"], {"trials": "3"}, "repetitions"),
        (["optimizer.lr=1e-4,1e-3", "optimizer.lr=1"], {}, "given twice"),
        (["~augment=1,2"], {}, "taken away"),
        (["optimizer.lr=glob(*)"], {}, "name them"),
        (["optimizer.lr=1e-4,1e-3", "seed=1", "seed=2"], {}, "seed: given twice"),
        (["optimizer.lr=1e-4,1e-3", "output_root=a,b"], {}, "a study has one folder"),
        (["model=mlp,linear", "model.width=8,16"], {}, "write when: {model.width: {model: THOSE}}"),
        (["sweep=nothing_of_this_name"], {}, "no such sweep"),
    ],
)
def test_what_is_refused_says_what_to_do(words: list[str], options: dict[str, str], part: str) -> None:
    assert part in refused(*words, **options)


def test_a_loss_needs_no_direction() -> None:
    goal = asked("optimizer.lr=1e-4,1e-3", goal="val/loss").question.goal
    assert goal is not None and (goal.metric, goal.direction) == ("val/loss", "min")


def test_intervals_are_searched_and_their_ends_composed_first() -> None:
    found = asked("optimizer.lr=tag(log,interval(1e-4,1e-1))", "model.width=int(interval(4,64))", trials="20")
    assert found.cells == [] and found.question.search == "tpe" and found.question.trials == 20
    lr, width = found.space.axes
    assert (lr.low, lr.high, lr.log, lr.whole) == (1e-4, 1e-1, True, False) and (width.low, width.high, width.whole) == (4, 64, True)
    assert width.at(7.4).words == ("model.width=7",)
    assert "expected an integer >= 1, found 0" in refused("model.width=int(interval(0,64))", trials="3")


SHEET = """
space:
  optimizer.lr: [1e-3, 1e-2]
  model: mlp,linear
  model.width: [8, 16]
pairs:
  - {train.batch_size: [32, 128], train.steps: [40, 10]}
when: {model.width: {model: mlp}}
words: [train.log_every=5]
seeds: 2
goal: val/loss
"""


def sheet(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(text, "utf-8")
    return f"sweep={folder / 'mine.yaml'}"


def test_a_sheet_has_pairs_and_conditions(tmp_path: Path) -> None:
    found = asked(sheet(tmp_path, SHEET))
    assert len(found.cells) == 2 * (2 + 1) * 2
    for cell in found.cells:
        assert ("model.width" in cell.params) == (cell.params["model"] == "mlp")
        assert (cell.params["train.batch_size"], cell.params["train.steps"]) in ((32, 40), (128, 10))
        assert "log_every: 5" in cell.jobs[0].text
    assert found.question.seeds == (0, 1) and found.question.goal is not None


def test_the_command_line_takes_the_place_of_what_a_sheet_says(tmp_path: Path) -> None:
    found = asked(sheet(tmp_path, SHEET), "optimizer.lr=0.5", "seed=7", goal="val/accuracy:max")
    assert {"optimizer.lr"} & set(found.cells[0].params) == set() and "lr: 0.5" in found.cells[0].jobs[0].text
    assert found.question.goal is not None and found.question.goal.metric == "val/accuracy"
    assert "go together" in refused(sheet(tmp_path, SHEET), "train.steps=5")
    assert "log_every: 3" in asked(sheet(tmp_path, SHEET), "train.log_every=3").cells[0].jobs[0].text


def test_the_sheet_of_the_page_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "sweep.md").read_text("utf-8")
    text = page.partition("```yaml\n")[2].partition("```")[0]
    space, options = space_of([sheet(tmp_path, text), "seed=7", "model.width=32,64"], None)
    assert [axis.keys[0] for axis in space.axes] == ["optimizer.lr", "model", "train.batch_size", "model.width"] and space.seeds == (7,)
    assert space.axes[-1].when == {"model": ("mlp",)} and read_options(options, space)["trials"] == 20


def test_other_values_for_a_key_of_a_sheet_keep_its_condition(tmp_path: Path) -> None:
    space = space_of([sheet(tmp_path, SHEET), "model.width=4,6,7"], None)[0]
    cells = [{key: value for point in points for key, value in point.values.items()} for points in space.grid()]
    assert len(cells) == 2 * 2 * (3 + 1)
    assert [cell.get("model.width") for cell in cells if cell["model"] == "mlp"] == [4, 6, 7] * 4
    assert all("model.width" not in cell for cell in cells if cell["model"] == "linear")


@pytest.mark.parametrize(
    "text, part",
    [
        ("spcae: {optimizer.lr: [1, 2]}", "did you mean space"),
        ("space: {seed: [1, 2]}", "seeds: 5"),
        ("space: {optimizer.lr: []}", "expected a list of values"),
        ("pairs: [{train.steps: [1, 2], train.batch_size: [3]}]", "as many values of each"),
        ("space: {model: [mlp, linear], model.width: [8]}\nwhen: {model.width: {model: cnn}}", "never is cnn"),
        ("space: {optimizer.lr: [1, 2]}\nseeds: 0", "seeds: expected a number"),
        ("space: {optimizer.lr: [1, 2]}\ngoal: test/loss", "never chooses"),
        ("space: {optimizer.lr: [1, 2]}\ntrials: many", "expected a whole number"),
        ("space: {optimizer.lr: [1, .nan]}", "mine.yaml: optimizer.lr=nan: expected a number"),
        ("space: {optimizer.lr: [1, 2]}\nwords: [output_root=a]", "belongs on the command line"),
    ],
)
def test_a_sheet_that_is_wrong_is_refused(tmp_path: Path, text: str, part: str) -> None:
    assert part in refused(sheet(tmp_path, text))


def test_equal_questions_have_one_identity() -> None:
    one, same, other = (asked(f"optimizer.lr=1e-3,{rate}") for rate in ("1e-2", "1e-2", "2e-2"))
    assert identity(one.question) == identity(same.question) != identity(other.question)
    assert identity(replace(one.question, words=("a=1", "b=2"))) == identity(replace(one.question, words=("b=2", "a=1")))
    more = asked("optimizer.lr=interval(1e-3,1e-2)", trials="30").question
    assert identity(more) == identity(asked("optimizer.lr=interval(1e-3,1e-2)", trials="60").question)


def test_what_is_asked_otherwise_is_said_in_the_words_of_the_command_line(tmp_path: Path) -> None:
    def plain(*words: str, **more: Any) -> dict[str, Any]:
        space = space_of(words, None)[0]
        return asdict(Question(space.words, space.described(), space.seeds or (0,), more.pop("goal", None), **more))

    def said(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
        lines = different("s", json.loads(json.dumps(one)), other)
        assert all(line.startswith("study s was asked otherwise: ") and line.endswith("another --name") for line in lines)
        return [line.split(": ", 1)[1].rpartition(";")[0] for line in lines]

    grid = plain("optimizer.lr=0.1,0.2", "train.steps=3")
    assert said(grid, plain("optimizer.lr=0.1,0.3", "train.steps=3")) == ["optimizer.lr=0.1,0.2, now optimizer.lr=0.1,0.3"]
    other = plain("optimizer.lr=0.1,0.2", "train.steps=4", "seed=1,2", trials=9)
    assert said(grid, other) == ["seeds 0, now 1,2", "train.steps=3, now train.steps=4"]
    search = plain("optimizer.lr=tag(log,interval(0.1,1))", "train.steps=3", search="tpe", goal=Goal("val/loss", "min"))
    assert "optimizer.lr=0.1,0.2, now optimizer.lr=tag(log,interval(0.1,1.0))" in said(grid, search)
    assert {"goal val/loss:min, now nothing", "search tpe, now grid"} <= set(said(search, grid))
    assert said({**grid, "plugins": [["a.py", "1"]]}, {**grid, "plugins": (("a.py", "2"),)}) == ["plugin a.py has changed since then"]
    pairs = plain(sheet(tmp_path, SHEET))
    assert "train.batch_size=32 train.steps=40 or train.batch_size=128 train.steps=10, now no train.batch_size,train.steps" in said(
        pairs, grid
    )
    assert "model.width=8,16 where model is mlp, now no model.width" in said(pairs, grid)


def test_texts_are_read_back_as_they_were() -> None:
    for value in ("plain", "with space", "it's", "a,b", "x\\y", "", 1e-5, 3, True, None, [1, "a b"], {"k": [1.5, None]}):
        axis_free = read_words([f"k={text_of(value)}"])
        assert axis_free.words == (f"k={text_of(value)}",)
        from hydra.core.override_parser.overrides_parser import OverridesParser

        assert OverridesParser.create().parse_override(f"k={text_of(value)}").value() == value


@pytest.mark.parametrize(
    "metric, words, part",
    [
        ("val/acuracy", (), "not measured; there are val/loss, val/accuracy, val/worst_recall; did you mean val/accuracy?"),
        ("val_ema/accuracy", (), "say train.ema=0.999, or val/accuracy"),
        ("val/accuracy", ("train.eval_splits=[train]",), "val is not in train.eval_splits"),
        ("val/worst_recall", (), ""),
        ("val_ema/accuracy", ("train.ema=0.9",), ""),
        ("val/f1", ("metric=f1",), ""),
        ("train/accuracy", (), ""),
    ],
)
def test_a_goal_that_no_run_measures_is_refused_before_anything_runs(metric: str, words: tuple[str, ...], part: str) -> None:
    config = compose(["dataset=moons", "dataset.n=50", "device=cpu", *words])
    if part:
        with pytest.raises(UsageError) as error:
            refuse_unmeasured(Goal(metric, "max"), config)
        assert part in error.value.lines[0] and len(error.value.lines) == 1
    else:
        refuse_unmeasured(Goal(metric, "max"), config)
