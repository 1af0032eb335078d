"""What an experiment asks for, which runs it needs in which order, and which of them are there."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
from reproducing import TINY, experiment, sheet

from dlrun.claims.forms import WHOLE
from dlrun.config import compose
from dlrun.config.dump import dump
from dlrun.errors import MissingError, UsageError
from dlrun.reproduce.leader import Runs, study_name
from dlrun.reproduce.sheet import read_axis, read_sheet, seeds_of
from dlrun.reproduce.there import Store, likeness, new_place
from dlrun.reproduce.wanted import Wanted, all_wanted, choose, judged, needs, tuning_runs
from dlrun.reproduce.work import abandoned, whole
from dlrun.study.ledger import Taken
from dlrun.study.trainer import place_of

LR = {"lr": {"optimizer.lr": [1e-3, 1e-2, 1e-1]}}
TUNED: dict[str, Any] = {"axes": LR, "tune": {"axis": "lr", "by": "val/loss", "seeds": [100, 101]}}


def test_an_axis_goes_by_its_first_key_and_moves_all_of_them() -> None:
    axis = read_axis("size", {"model.width": [8, 16], "train.steps": [100, 50]})
    assert axis.values == (8, 16)
    assert axis.words(16) == ("model.width=16", "train.steps=50")


W = "model.width"


@pytest.mark.parametrize("values", [{}, [1], {W: []}, {W: [1, 2], "train.steps": [1]}, {W: [1, 1]}, {W: 3}])
def test_an_axis_of_another_form_is_refused(values: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="axes"):
        sheet(tmp_path, {"axes": {"size": values}})


def test_what_is_better_is_read_off_a_metric_s_name(tmp_path: Path) -> None:
    for metric, direction in (("val/loss", "min"), ("val/energy_distance", "min"), ("val/accuracy", "max"), ("val/loss:max", "max")):
        tune = sheet(tmp_path, {**TUNED, "tune": {**TUNED["tune"], "by": metric}}).tune
        assert tune is not None
        assert (tune.metric, tune.direction) == (metric.partition(":")[0], direction)


def test_seeds_are_a_number_or_a_list_and_go_on_where_more_are_asked() -> None:
    assert seeds_of(3) == (0, 1, 2)
    assert seeds_of([5, 9]) == (5, 9)
    assert seeds_of([5, 9], 4) == (5, 9, 10, 11)
    assert seeds_of(5, 2) == (0, 1)
    with pytest.raises(UsageError):
        seeds_of([1, 1])


def test_an_experiment_without_arms_has_one(tmp_path: Path) -> None:
    found = sheet(tmp_path, {"arms": {}, "claims": ['run["val/loss"].final < 9']})
    assert found.arms == (WHOLE,)
    assert [str(each) for each in judged(found)] == ["tiny run seed 0", "tiny run seed 1"]


def test_the_grid_of_a_tuning_is_the_same_for_every_arm_and_on_seeds_that_judge_nothing(tmp_path: Path) -> None:
    found = sheet(tmp_path, TUNED)
    tuning = [each for each in all_wanted(found) if each.tuning]
    assert {each.seed for each in tuning} == {100, 101}
    assert {each.seed for each in judged(found)} == {0, 1}
    grids = [sorted((each.seed, each.tuning) for each in tuning if each.arm == arm) for arm in found.arms]
    assert grids[0] == grids[1]
    assert len(grids[0]) == 6


def test_a_seed_that_tunes_and_judges_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="seed 1 judges as well"):
        sheet(tmp_path, {**TUNED, "tune": {"axis": "lr", "by": "val/loss", "seeds": [1, 100]}})


def test_tuning_by_the_test_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="test split never chooses"):
        sheet(tmp_path, {**TUNED, "tune": {"axis": "lr", "by": "test/loss", "seeds": [100]}})


def test_a_run_stands_behind_all_it_needs(tmp_path: Path) -> None:
    arms = {"last": {"start": {"from": "middle"}}, "middle": {"start": {"from": "first"}}, "first": {}}
    found = sheet(tmp_path, {**TUNED, "arms": arms, "claims": ['last["val/loss"].final < 9']})
    order = all_wanted(found)
    assert len(order) == len(set(order))
    for place, wanted in enumerate(order):
        assert all(other in order[:place] for other in needs(found, wanted)), str(wanted)
    above = Wanted("tiny", "middle", (), 100)  # what a tuning run of `last` starts from is there on the tuning seed
    assert above in order


def test_arms_that_start_from_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in a circle: a <- b <- a"):
        sheet(tmp_path, {"arms": {"a": {"start": {"from": "b"}}, "b": {"start": {"from": "a"}}}, "claims": ['a["val/loss"].final < 9']})


def test_the_best_mean_over_the_tuning_seeds_wins_and_an_edge_is_seen(tmp_path: Path) -> None:
    found = sheet(tmp_path, TUNED)
    runs = tuning_runs(found, "wide", ())
    losses = {1e-3: (0.5, 0.7), 1e-2: (0.6, 0.4), 1e-1: (0.1, "nan")}
    metrics = {run: {"val/loss": losses[run.tuning[0][1]][run.seed - 100]} for run in runs}
    chosen = choose(found, "wide", (), metrics)
    assert (chosen.winner, chosen.edge) == (1e-2, False)
    assert dict(chosen.values)[1e-3] == pytest.approx(0.6)
    assert dict(chosen.values)[1e-1] == math.inf  # a run that diverged is the worst, however good its sisters
    metrics = {run: {"val/loss": run.tuning[0][1]} for run in runs}
    assert choose(found, "wide", (), metrics).edge


def test_what_is_judged_has_no_say_in_which_run_it_is(tmp_path: Path) -> None:
    one = dump(sheet(tmp_path).compose("wide", (), 0).saved)
    changed = {"claims": ['wide["val/loss"].final < 0.1'], "events": {"good": "val/accuracy >= 0.9"}, "tags": ["x"], "cost": 3}
    other = dump(sheet(tmp_path, changed).compose("wide", (), 0).saved)
    assert one != other
    assert likeness(one) == likeness(other)


def test_a_run_from_before_replicas_is_replica_0(tmp_path: Path) -> None:
    texts = [dump(sheet(tmp_path).compose("wide", (), 0, f"train.replica={number}").saved) for number in (0, 1)]
    assert likeness(texts[0].replace("  replica: 0\n", "")) == likeness(texts[0]) != likeness(texts[1])


@pytest.mark.parametrize("word", ["optimizer.lr=0.5", "train.steps=21", "dataset.noise=0.2", "model.depth=3"])
def test_what_is_trained_has(tmp_path: Path, word: str) -> None:
    found = sheet(tmp_path)
    assert likeness(dump(found.compose("wide", (), 0).saved)) != likeness(dump(found.compose("wide", (), 0, word).saved))


def put(store: Path, config: Any, status: str = "finished", reason: str | None = None, start: Any = None) -> Path:
    """A run directory by hand."""
    path = store / "tiny" / f"run-{len(list(store.glob('tiny/*')))}"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(dump(config.saved))
    (path / "summary.json").write_text(json.dumps({"status": status, "reason": reason}))
    (path / "manifest.json").write_text(json.dumps({"start": start, "data": {"fingerprint": "sha256:1"}}))
    return path


def test_finished_runs_of_equal_config_are_there_the_newest_first(tmp_path: Path) -> None:
    found = sheet(tmp_path)
    config, other = found.compose("wide", (), 0), found.compose("wide", (), 1)
    first, second = put(tmp_path, config), put(tmp_path, config)
    half, lost = put(tmp_path, config, "interrupted"), put(tmp_path, config, "failed", "non-finite loss")
    store = Store(tmp_path, "tiny")
    assert [each.path for each in store.finished(config, None)] == [lost, second, first]
    assert [each.diverged for each in store.finished(config, None)] == [True, False, False]
    begun = store.begun(config)
    assert begun is not None
    assert begun.path == half
    assert store.finished(other, None) == []
    assert Store(tmp_path, "tiny", empty=True).finished(config, None) == []


def test_a_run_counts_only_with_the_start_it_needs(tmp_path: Path) -> None:
    arms = {"first": {}, "second": {"start": {"from": "first"}}}
    found = sheet(tmp_path, {"arms": arms, "claims": ['first["val/loss"].final < 9']})
    origin, elsewhere = tmp_path / "tiny" / "a", tmp_path / "tiny" / "b"
    config = found.compose("second", (), 0, f"start.from={origin}")
    path = put(tmp_path, config, start={"path": str(origin / "checkpoints" / "step-00000020")})
    store = Store(tmp_path, "tiny")
    assert [each.path for each in store.finished(config, str(origin))] == [path]
    assert store.finished(config, str(elsewhere)) == []
    assert store.finished(config, None) == []


def test_new_folders_are_nobodys(tmp_path: Path) -> None:
    taken: set[Path] = set()
    one, two = new_place(tmp_path, "tiny", "s0-wide", taken), new_place(tmp_path, "tiny", "s0-wide", taken)
    assert one != two
    assert one.name.endswith("-s0-wide")
    assert one.parent == tmp_path / "tiny"


@pytest.mark.parametrize("place", ["../../../elsewhere", "/etc", "../../.."])
def test_a_ledger_cannot_send_a_run_out_of_the_output_root(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "outputs" / "sweeps" / "x"
    job = Taken(1, 0, 0, "", "", 1, False, place=place)
    with pytest.raises(MissingError, match="outside"):
        place_of(folder, job)
    inside = Taken(1, 0, 0, "", "", 1, False, place="../../tiny/a")
    assert place_of(folder, inside) == tmp_path / "outputs" / "tiny" / "a"


def test_what_was_typed_stands_over_every_arm(tmp_path: Path) -> None:
    experiment(tmp_path, TINY)
    found = read_sheet("tiny", ["model.width=5"], None, str(tmp_path / "conf"))
    assert [found.compose(arm, (), 0).resolved["model"]["width"] for arm in found.arms] == [5, 5]


def test_an_experiment_that_claims_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="claims nothing"):
        sheet(tmp_path, {"claims": []})


def test_a_config_of_a_run_is_what_train_composes(tmp_path: Path) -> None:
    found = sheet(tmp_path)
    typed = compose(["experiment=tiny", "arm=wide", "seed=1"], config_dir=str(tmp_path / "conf"))
    assert dump(found.compose("wide", (), 1).saved) == dump(typed.saved)


def test_more_seeds_do_not_run_into_those_that_tune(tmp_path: Path) -> None:
    conf = experiment(tmp_path, {**TINY, **TUNED})
    with pytest.raises(UsageError, match="seed 100 both tunes and judges"):
        read_sheet("tiny", [], 150, str(conf))


@pytest.mark.parametrize("asked", [None, 1, 7])
@pytest.mark.parametrize("changed", [{}, TUNED])
def test_a_cost_stands_for_the_runs_of_the_experiments_own_seeds(tmp_path: Path, asked: int | None, changed: dict[str, Any]) -> None:
    conf = experiment(tmp_path, {**TINY, **changed})
    own, found = (read_sheet("tiny", [], seeds, str(conf)) for seeds in (None, asked))
    assert whole(found, len(all_wanted(found))) == pytest.approx(len(all_wanted(own)))


def test_only_calls_for_the_same_runs_share_a_ledger(tmp_path: Path) -> None:
    """One that was killed may have had other overrides, or an experiment that was changed since: its runs are not those asked for now."""

    def named(place: str, changed: dict[str, Any] | None = None, *words: str) -> str:
        conf = experiment(tmp_path / place, {**TINY, **(changed or {})})
        runs = Runs([read_sheet("tiny", words, config_dir=str(conf))], tmp_path / "outputs")
        runs.look()
        return study_name(runs)

    others = [named("one", None, "optimizer.lr=0.5"), named("two", {"train": {"steps": 21}}), named("three", {"seeds": 3})]
    assert named("one") == named("one") and len({named("one"), *others}) == 4


def test_ledgers_of_calls_that_were_killed_are_cleared_away_later(tmp_path: Path) -> None:
    for name, age in (("reproduce-old", 3600.0), ("reproduce-new", 1.0), ("mine", 3600.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.db").touch()
        os.utime(tmp_path / name / "study.db", (time.time() - age,) * 2)
    assert [path.name for path in abandoned(tmp_path)] == ["reproduce-old"]
