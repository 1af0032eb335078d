"""Checks that look on while a run trains: what must raise them, what must not, and that a run is the same with and without them."""

from __future__ import annotations

import functools
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from checks_found import CLOUDS, built, parts, plug  # noqa: F401 (parts is a fixture)
from torch import nn

from dlrun import Splits
from dlrun.checks import Finding
from dlrun.checks._watch_players import Players
from dlrun.checks._watch_val import TooGood, score_and_null
from dlrun.checks._watcher import Evaluation, falls, median, spread
from dlrun.checks.curve_watch import curve_watch
from dlrun.checks.train_eval_gap import train_eval_gap
from dlrun.checks.weights_watch import weights_watch
from dlrun.watching import Watchers


def watched(losses: list[float], *words: str, steps: int = 100, val: list[float] | None = None) -> list[Finding]:
    """What curve_watch says of a run with these training losses at steps 1, 2 ... and validation losses spread over them."""
    watcher = curve_watch(built(*CLOUDS, f"train.steps={steps}", *words))
    found = []
    for step, loss in enumerate(losses, 1):
        row: dict[str, Any] = {"step": step, "train/loss": loss, "train/lr": 0.1}
        every = len(losses) // len(val or losses)
        if val and step % every == 0:
            row["val/loss"] = val[step // every - 1]
        found.append(watcher.row(row))
        if "val/loss" in row:
            found.append(watcher.evaluated(Evaluation(watcher.run, step, False, {})))
    return [finding for finding in found if finding]


def noise(step: int) -> float:
    return math.sin(12.9898 * step) * 0.5


def test_a_loss_that_runs_away_is_said() -> None:
    found = watched([1 + 0.05 * noise(s) for s in range(40)] + [3.0 + 0.01 * s for s in range(60)], steps=1000)
    assert [(f.level, "diverges" in f.message) for f in found[:1]] == [("warning", True)]


@pytest.mark.parametrize(
    "losses",
    [
        [2 * math.exp(-s / 30) + 0.2 * noise(s) * math.exp(-s / 60) for s in range(100)],  # noisy but falling
        [1 + 0.6 * math.sin(s / 8) * math.exp(-s / 50) - s / 120 for s in range(100)],  # a cyclic rate
        [1.0] * 10 + [5.0] * 3 + [0.9 - s / 200 for s in range(87)],  # a spike that heals
        [-float(s) for s in range(100)],  # below zero, and falling
        [1e-7 * (1 + noise(s)) for s in range(100)],  # nothing left to learn
    ],
    ids=["noisy", "cyclic", "spike", "negative", "done"],
)
def test_healthy_curves_are_left_in_peace(losses: list[float]) -> None:
    assert watched(losses) == []


def test_a_loss_that_rests_is_said_at_half_of_the_run_and_not_where_it_is_meant() -> None:
    resting = [1.386 + 0.01 * noise(s) for s in range(100)]
    assert ["not learning" in f.message for f in watched(resting)] == [True]
    assert watched(resting, "expects.loss_may_rise=true") == [] == watched(resting, "expects.pretrained=true")
    assert watched(resting[:49]) == []


def test_over_fitting_is_a_note() -> None:
    falling = [2 * math.exp(-s / 20) for s in range(100)]
    found = watched(falling, val=[1.0, 0.8, 0.6, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert [f.level for f in found] == ["info"] and "since step 40" in found[0].message
    assert watched(falling, val=[1.0, 0.8, 0.6, 0.5, 0.51, 0.5, 0.51, 0.5, 0.51, 0.5]) == []


def test_a_row_costs_the_same_at_any_step() -> None:
    watcher = curve_watch(built(*CLOUDS, "train.steps=100000"))
    for step in range(1, 20_001):
        assert watcher.row({"step": step, "train/loss": 2 - step / 20_000 + noise(step), "train/lr": 0.1}) is None
    steps = [step for step, _, _ in watcher.losses.kept]
    assert len(steps) <= 400 and steps[0] == 1 and len({b - a for a, b in itertools.pairwise(steps)}) == 1


def test_the_trend_is_that_of_mann_and_kendall() -> None:
    """Five falling values: S = -10, variance 16.67, z = -9 / 4.082 with the correction for continuity."""
    assert falls([5, 4, 3, 2, 1]) == pytest.approx(0.5 * math.erfc(9 / math.sqrt(5 * 4 * 15 / 18) / math.sqrt(2)))
    assert falls([1, 2, 3, 4, 5]) == 0.5 and falls([3, 2, 1]) == 1.0
    assert median([3, 1, 2]) == 2 and spread([1, 2, 3, 4, 100]) == pytest.approx(1.4826)


def test_weights_that_explode_or_vanish() -> None:
    run = built(*CLOUDS)
    for factor, level in ((1.0, None), (3.0, None), (11.0, "warning"), (0.05, "warning")):
        watcher = weights_watch(run)
        weights = list(watcher.named.values())
        with torch.no_grad():
            torch._foreach_mul_(weights, factor)
            found = watcher.evaluated(Evaluation(run, 10, False, {}))
            torch._foreach_mul_(weights, 1 / factor)
        assert (found.level if found else None) == level


def test_statistics_that_are_not_those_of_the_data() -> None:
    def net(momentum: float) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, 4))

    for momentum, level in ((0.1, None), (0.0, "warning")):
        plug("model", "normed", functools.partial(net, momentum))
        run = built(*CLOUDS, "model=normed")
        watcher = train_eval_gap(run)
        with torch.no_grad():
            next(run.modules["model"].parameters()).mul_(0.01)  # small activations: the statistics of the start are far off
        module = run.modules["model"]
        optimizer = torch.optim.Adam(module.parameters(), 0.01)
        watcher.evaluated(Evaluation(run, 0, False, {"val/loss": 1.4}))
        module.train()
        for step in range(120):
            batch = run.data.batches(step)[0]
            loss = nn.functional.cross_entropy(module(batch["x"]), batch["y"])
            optimizer.zero_grad(), loss.backward(), optimizer.step()
        buffers = {key: value.clone() for key, value in module.named_buffers()}
        found = watcher.evaluated(Evaluation(run, 120, False, {}))
        assert (found.level if found else None) == level, found
        assert all(torch.equal(value, buffers[key]) for key, value in module.named_buffers()) and module.training


def test_a_player_that_has_won() -> None:
    run = built("dataset=ring", "task=gan")
    for critic, generator, level in ((0.01, 6.0, "warning"), (0.6, 1.2, None), (-9.0, 6.0, None)):
        watcher = Players(run)
        rows = [{"step": step, "train/critic_loss": critic, "train/generator_loss": generator} for step in range(0, 400, 40)]
        found = [finding for row in rows if (finding := watcher.row(row))]
        assert (found[0].level if found else None) == level


def test_guessing_is_told_from_knowing() -> None:
    y = torch.arange(400) % 4
    score, null, name = score_and_null((nn.functional.one_hot(y, 4).float(), y)) or (0, torch.zeros(1), "")
    assert (score, name) == (1.0, "accuracy") and float(null.mean()) == pytest.approx(0.25, abs=0.01)
    score, null, name = score_and_null((y.float(), -y.float())) or (0, torch.zeros(1), "")
    assert name == "correlation" and score == pytest.approx(-1) and abs(float(null.mean())) < 0.02
    assert score_and_null(None) is None and score_and_null((torch.zeros(4, 2, 3), torch.zeros(4).long())) is None


def flipped() -> Splits:
    x = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return Splits((x, y), (x, 1 - y))


def told(run: Path, event: str = "finding") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event and line["step"] > 0]


def test_shifted_targets_of_val_are_a_finding_of_the_run(tmp_path: Path) -> None:
    plug("dataset", "flipped", flipped)
    words = ("dataset=flipped", "task=supervised", "loss=cross_entropy", "train.steps=200", "train.eval_every=100", "checks=fast")
    run, summary, _ = runs.start(tmp_path, *words)
    assert [(line["check"], line["level"]) for line in told(run)] == [("label_permutation", "warning")]
    assert [finding["check"] for finding in summary["findings"]] == ["label_permutation"] and summary["findings"][0]["step"] == 100


def test_weights_that_decay_away_are_a_finding_of_the_run(tmp_path: Path) -> None:
    """Half of the weights goes at every step: the norm is soon far below a tenth of the start."""
    for decay, said in ((5.0, ["weights_watch"]), (0.001, [])):
        words = (*CLOUDS, "optimizer=sgd", "optimizer.lr=0.1", f"optimizer.weight_decay={decay}", "train.steps=60", "train.eval_every=20")
        run, summary, _ = runs.start(tmp_path / str(decay), *words, "checks=fast")
        assert [line["check"] for line in told(run) if line["check"] == "weights_watch"] == said
        assert [finding["check"] for finding in summary["findings"] if finding["check"] == "weights_watch"] == said


def test_statistics_that_never_learn_are_a_finding_of_the_run(tmp_path: Path) -> None:
    """A batch norm of momentum 1e-4 on activations a hundredth of what its statistics of the start say: another network in eval mode."""

    class normed(nn.Sequential):
        def __init__(self, *, momentum: float) -> None:
            super().__init__(nn.Linear(8, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, 4))
            with torch.no_grad():
                self[0].weight.mul_(0.01), self[0].bias.mul_(0.01)

    plug("model", "normed", normed)
    for momentum, said in ((1e-4, ["train_eval_gap"]), (0.1, [])):
        words = (*CLOUDS, "model=normed", f"model.momentum={momentum}", "optimizer=adam", "optimizer.lr=0.003", "train.steps=120")
        run, summary, _ = runs.start(tmp_path / str(momentum), *words, "train.eval_every=60", "checks=fast")
        assert [line["check"] for line in told(run) if line["check"] == "train_eval_gap"] == said
        assert [finding["check"] for finding in summary["findings"] if finding["check"] == "train_eval_gap"] == said


def test_nothing_is_said_with_checks_none_and_of_healthy_runs(tmp_path: Path) -> None:
    plug("dataset", "flipped", flipped)
    words = ("dataset=flipped", "task=supervised", "loss=cross_entropy", "train.steps=200", "train.eval_every=100", "checks=none")
    assert told(runs.start(tmp_path, *words)[0]) == []
    run, summary, _ = runs.start(tmp_path, "dataset=moons", "train.steps=150", "train.eval_every=50", "checks=fast")
    assert told(run) == [] and summary["findings"] == []


def test_rows_from_before_a_resume_are_shown_again_in_silence(tmp_path: Path) -> None:
    rows = [{"step": step, "time": 0.0, "train/loss": 1.386 + 0.01 * noise(step), "train/lr": 0.1} for step in range(1, 101)]
    run = built(*CLOUDS, "train.steps=100")
    run.config["checks"] = "fast"
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fresh, resumed = Watchers(run), Watchers(run)
    assert [(step, finding.check) for step, finding in fresh.rows(rows)] == [(50, "curve_watch")]
    resumed.replay(tmp_path / "metrics.jsonl")
    assert list(resumed.rows([{**rows[-1], "step": 101}])) == []


def test_a_loss_below_its_floor_cannot_be() -> None:
    watcher = TooGood(built(*CLOUDS))
    assert watcher.evaluated(Evaluation(watcher.run, 1, False, {"val/loss": 0.01})) is None
    found = watcher.evaluated(Evaluation(watcher.run, 1, False, {"val/loss": -0.5}))
    assert found is not None and found.level == "warning" and "below 0" in found.message


def test_outputs_of_an_evaluation_are_of_the_task_s_own_rows() -> None:
    run = built(*CLOUDS)
    seen = Evaluation(run, 1, True, {})
    out, y = seen.compared("val") or (None, None)
    assert out.shape == (256, 4) and torch.equal(y, run.data.targets("val")) and seen.epochs == 0.25
    assert Evaluation(built("dataset=ring", "task=gan"), 1, True, {}).compared("val") is None
