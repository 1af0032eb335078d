"""A user's own parts through the plugin API: an awkward one of each, trained, evaluated, killed and resumed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import runs

from dlrun import registry
from dlrun.build import build
from dlrun.cli import main
from dlrun.config import compose
from dlrun.errors import UsageError
from dlrun.loading import load
from dlrun.plugins import load_plugins

MINE = '''
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from dlrun import DataSpec, LossTask, Mean, Objective, Splits, Task, register


class Pictures(torch.utils.data.Dataset):
    def __init__(self, n, offset): self.n, self.offset = n, offset
    def __len__(self): return self.n
    def __getitem__(self, i):
        draw = np.random.default_rng(i + self.offset)
        label = i % 3
        pixels = draw.integers(0, 80, (8, 8, 3)); pixels[:, :, label] += 120
        return Image.fromarray(pixels.astype(np.uint8)), label


@register.dataset
def pictures(*, n: int = 60) -> Splits:
    return Splits(Pictures(n, 0), Pictures(30, 1000), Pictures(30, 2000))


class Dicts(torch.utils.data.Dataset):
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __getitem__(self, i):
        x = torch.sin(torch.arange(4) * (i + 1.0))
        return {"x": x, "y": np.float64(x.sum().item())}          # float64 targets


@register.dataset
def dicts(seed, *, n: int = 80) -> Splits:
    return Splits(Dicts(n))


@register.dataset
def pair(*, n: int = 120):
    x = torch.linspace(-1, 1, n)[:, None].double()
    y = (x[:, 0] > 0).double()
    return Splits((x, y), (x, y))


@register.model
def two_outputs(in_shape, out_shape, *, width: int = 16) -> nn.Module:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(in_shape)), width), nn.ReLU())
            self.head, self.side = nn.Linear(width, int(np.prod(out_shape))), nn.Linear(width, 1)
        def forward(self, x):
            h = self.body(x)
            return self.head(h), self.side(h)
    return Net()


@register.model
def plain(in_shape, *, width: int = 8, activation: Literal["relu", "tanh"] = "relu"):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(in_shape)), width), nn.Tanh(), nn.Linear(width, 1), nn.Flatten(0))


@register.loss
class weighed(nn.Module):
    """Cross-entropy at a learned temperature, and a side output pulled to zero: a module with a parameter of its own."""
    def __init__(self, *, pull: float = 0.1):
        super().__init__()
        self.log_temperature, self.pull = nn.Parameter(torch.zeros(())), pull
    def forward(self, out, y):
        logits, side = out
        return nn.functional.cross_entropy(logits * self.log_temperature.exp(), y) + self.pull * side.square().mean()


@register.metric(best="max", whole=True)
def spread_correct(out, y):
    """Needs the whole split: accuracy times the number of classes present in it."""
    return (out.argmax(1) == y).double().mean() * len(y.unique())


@register.metric(best="min")
def largest_error(out, y):
    return Mean((out - y).abs().sum(), y.numel())


@register.optimizer
class half_sign:
    """No torch.optim in sight: sign descent with a memory."""
    def __init__(self, named_parameters, *, lr: float = 0.01):
        self.param_groups = [{"params": [p for _, p in named_parameters], "lr": lr}]
        self.memory = [torch.zeros_like(p) for p in self.param_groups[0]["params"]]
    def zero_grad(self):
        for p in self.param_groups[0]["params"]: p.grad = None
    @torch.no_grad()
    def step(self):
        for p, m in zip(self.param_groups[0]["params"], self.memory):
            if p.grad is not None:
                m.mul_(0.9).add_(p.grad); p.sub_(self.param_groups[0]["lr"] * m.sign())
    def state_dict(self): return {"memory": self.memory, "lr": self.param_groups[0]["lr"]}
    def load_state_dict(self, state):
        for mine, theirs in zip(self.memory, state["memory"]): mine.copy_(theirs)
        self.param_groups[0]["lr"] = state["lr"]


@register.schedule
def stepwise(optimizer, steps, *, gamma: float = 0.5):
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=gamma)


@register.schedule
def triangle(step, steps, *, top: float = 1.0) -> float:
    return top * (1 - abs(2 * step / steps - 1)) + 0.01


@register.task
class pull_and_push(Task):
    """Two networks against each other, with state of its own."""
    slots = {"model": ("puller", "pusher"), "optimizer": ("puller", "pusher")}
    def networks(self, spec):
        shape = (spec.in_shape, (2,))
        return {"puller": shape, "pusher": shape}
    def start(self, nets): self.centre = torch.zeros(2)
    def objectives(self, nets, batch):
        yield Objective((nets.puller(batch["x"]) - self.centre).square().mean(), ("puller",), len(batch))
        yield Objective(-(nets.pusher(batch["x"]) - nets.puller(batch["x"]).detach()).tanh().mean(), ("pusher",), len(batch))
    def after_step(self, nets, batches):
        with torch.no_grad():
            self.centre = 0.9 * self.centre + 0.1 * nets.puller(batches[0]["x"]).mean(0)
    def evaluate(self, nets, batch):
        return {"loss": Mean((nets.puller(batch["x"]) ** 2).sum(), len(batch))}
    def state_dict(self): return {"centre": self.centre}
    def load_state_dict(self, state): self.centre = state["centre"]
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    saved = {group: dict(parts) for group, parts in registry.PLUGINS.items()}
    load_plugins([str(path)])
    yield path  # type: ignore[misc]
    for group, parts in saved.items():
        registry.PLUGINS[group].clear()
        registry.PLUGINS[group].update(parts)


SHORT = ("train.steps=6", "train.checkpoint_every=2", "train.eval_every=3", "train.log_every=1", "train.batch_size=16", "train.keep_last=9")
AWKWARD = {
    "pil_images": ("dataset=pictures", "model=mlp", "task=supervised"),
    "pil_two_workers": ("dataset=pictures", "model=mlp", "task=supervised", "train.workers=2"),
    "dicts_float64": ("dataset=dicts", "model=mlp", "task=supervised", "metric=largest_error"),
    "two_outputs_module_loss_whole_metric": (
        "dataset=pictures", "model=two_outputs", "task=supervised", "loss=weighed", "loss.pull=0.5", "metric=spread_correct",
    ),
    "own_optimizer": ("dataset=pictures", "model=mlp", "task=supervised", "optimizer=half_sign", "optimizer.lr=0.001", "schedule=triangle"),
    "torch_scheduler": ("dataset=pictures", "model=mlp", "task=supervised", "schedule=stepwise", "schedule.gamma=0.3"),
    "two_networks": ("dataset=pair", "task=pull_and_push", "model.puller=mlp", "model.pusher=linear"),
    "binary": ("dataset=pair", "model=plain", "task=supervised", "task.kind=binary", "model.activation=tanh"),
}  # fmt: skip


@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_parts_train_and_resume_to_the_same_bits(case: str, mine: Path, tmp_path: Path) -> None:
    run, whole, code = runs.start(tmp_path, *SHORT, *AWKWARD[case])
    assert code == 0 and all(math.isfinite(value) for value in whole["metrics"].values())
    rows = runs.rows(run)
    runs.kill_back_to(run, 2)
    again, code, _ = runs.go_on(run)
    assert code == 0 and again["weights_sha256"] == whole["weights_sha256"]
    assert runs.rows(run) == rows


@pytest.mark.parametrize("case", [name for name in AWKWARD if name != "pil_two_workers"])
def test_awkward_parts_pass_the_fast_checks(case: str, mine: Path, tmp_path: Path) -> None:
    from dlrun.checks import run_checks
    from dlrun.train import build_run

    findings = run_checks(build_run(compose([*runs.QUIET, *SHORT, *AWKWARD[case]])), "fast")
    assert [f for f in findings if f.level in ("warning", "error")] == []


def test_metrics_and_losses_are_those_of_the_plugin(mine: Path, tmp_path: Path) -> None:
    run, whole, _ = runs.start(tmp_path, *SHORT, *AWKWARD["two_outputs_module_loss_whole_metric"])
    assert whole["best"]["metric"] == "val/spread_correct"
    assert whole["metrics"]["val/spread_correct"] == pytest.approx(3 * whole["metrics"]["val/accuracy"])
    loaded = load(run, step="last", plugins=[])
    assert set(loaded.networks) == {"model"}
    trained = loaded._run.modules["loss"].log_temperature.item()
    assert trained != 0.0


def test_the_logged_rate_is_the_one_the_step_used(mine: Path, tmp_path: Path) -> None:
    """A torch scheduler that halves the rate every two steps: steps 1 and 2 have the base rate, 3 and 4 half of it."""
    run, _, _ = runs.start(tmp_path, *SHORT, *AWKWARD["torch_scheduler"][:-1], "schedule.gamma=0.5", "optimizer.lr=0.01")
    rates = [row["train/lr"] for row in runs.rows(run) if "train/lr" in row]
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025])


def test_workers_change_no_bit(mine: Path, tmp_path: Path) -> None:
    sums = [runs.start(tmp_path / case, *SHORT, *AWKWARD[case])[1]["weights_sha256"] for case in ("pil_images", "pil_two_workers")]
    assert sums[0] == sums[1]


def test_what_stands_left_of_the_star_is_a_closed_list(mine: Path) -> None:
    registry.PLUGINS["model"]["greedy"] = lambda colour: None
    with pytest.raises(UsageError, match="asks for colour"):
        build(compose([*runs.QUIET, "model=greedy"]))


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("model=plain", "model.widht=3"), "did you mean model.width"),
        (("model=plain", "model.width=wide"), "model.width"),
        (("model=plain", "model.activation=gelu"), "relu"),
        (("dataset=pictures", "dataset.n=2.5"), "dataset.n"),
    ],
)
def test_options_of_a_plugin_are_checked(words: tuple[str, ...], fragment: str, mine: Path) -> None:
    with pytest.raises(UsageError) as caught:
        compose([*words])
    assert fragment in str(caught.value)


def test_a_run_never_brings_its_plugin(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with patch("dlrun.wrapup.draw_figures"):
        code = main(["train", "--plugin", str(mine), *AWKWARD["pil_images"], *SHORT, *runs.QUIET, f"run_dir={tmp_path / 'run'}"])
    assert code == 0
    facts = [fact for fact in json.loads((tmp_path / "run" / "manifest.json").read_text())["plugins"] if fact["path"] == str(mine)]
    assert facts and len(facts[0]["sha256"]) == 64
    script = f"from dlrun.cli import main; import sys; sys.exit(main(['eval', {str(tmp_path / 'run')!r}]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and f"--plugin {mine}" in done.stderr
    assert main(["eval", str(tmp_path / "run"), "--plugin", str(mine), "--json"]) == 0


def test_changed_test_labels_change_no_weight_and_no_choice(tmp_path: Path) -> None:
    """The val rule: nothing that training or choosing does sees the test split."""
    seen: list[dict[str, Any]] = []
    for flip in ("y", "2 - y"):
        path = tmp_path / f"data{len(seen)}.py"
        path.write_text(
            textwrap.dedent(
                f"""
                import torch
                from dlrun import Splits, register
                @register.dataset
                def labels{len(seen)}() -> Splits:
                    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)); y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
                    test = {flip}
                    return Splits((x[:150], y[:150]), None, (x[150:], test[150:]))
                """
            )
        )
        load_plugins([str(path)])
        named = f"labels{len(seen)}"
        _, summary, _ = runs.start(tmp_path / named, *SHORT, f"dataset={named}", "train.eval_splits=[val,test]")
        seen.append(summary)
    assert seen[0]["metrics"]["test/accuracy"] != seen[1]["metrics"]["test/accuracy"]
    assert seen[0]["weights_sha256"] == seen[1]["weights_sha256"] and seen[0]["best"] == seen[1]["best"]
