"""Checks leave no trace: training gives the same bits with and without them, and nothing of a run differs after they looked at it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch
from torch import Tensor, nn

from dlrun.checks import run_checks
from dlrun.config import compose
from dlrun.run import Run
from dlrun.train import build_run

SMALL = ("train.steps=3", "train.eval_every=0", "train.batch_size=16")
TEXT = ("task=language_model", "model=transformer", "model.width=16", "model.depth=1", "model.heads=2", "model.dropout=0.1")
CASES: dict[str, tuple[str, ...]] = {
    "linear": ("model=linear",),
    "mlp": ("model=mlp", "model.norm=batch", "model.dropout=0.3", "optimizer=sgd", "optimizer.momentum=0.9"),
    "cnn": ("model=cnn", "model.channels=[4,8]", "schedule=cosine"),
    "resnet": ("model=resnet", "optimizer=adam"),
    "transformer": ("TEXT", *TEXT),
    "supervised": ("dataset=moons", "task=supervised", "loss=bce", "task.kind=binary", "train.ema=0.9"),
    "gan": ("dataset=ring", "task=gan"),
    "accumulate": ("model=mlp", "train.accumulate=2", "train.precision=bf16"),
}


def words(case: str, folder: Path) -> list[str]:
    """The overrides of `case`, with a text to read where it needs one."""
    text = folder / "text.txt"
    text.write_text("a quick brown fox jumps over lazy dogs; " * 60)
    replaced = [f"dataset=text_file dataset.path={text} dataset.context=8".split() if w == "TEXT" else [w] for w in CASES[case]]
    return [*SMALL, *[word for found in replaced for word in found]]


@pytest.mark.parametrize("case", CASES)
def test_training_gives_the_same_bits(case: str, tmp_path: Path) -> None:
    sums = {}
    for level in ("none", "fast", *(("deep",) if case in ("mlp", "gan") else ())):
        folder = tmp_path / level
        folder.mkdir()
        _, summary, code = runs.start(folder, *words(case, tmp_path), f"checks={level}", "checks_on_error=continue")
        assert code == 0
        sums[level] = (summary["weights_sha256"], {key: value for key, value in summary["metrics"].items() if "loss" in key})
    assert len({repr(value) for value in sums.values()}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_deep_checks_give_the_same_bits(case: str, tmp_path: Path) -> None:
    found = []
    for level in ("none", "deep"):
        (tmp_path / level).mkdir()
        found.append(runs.start(tmp_path / level, *words(case, tmp_path), f"checks={level}", "checks_on_error=continue")[1])
    assert found[0]["weights_sha256"] == found[1]["weights_sha256"]


def pieces(value: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, bytes]]:
    """Every tensor, number and text that can be reached from `value`, with where it was found."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        yield path, hashlib.sha256(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).digest()
        yield f"{path}.grad", b"none" if value.grad is None else b"some"
        yield f"{path}.flags", repr((value.requires_grad, tuple(value.shape))).encode()
    elif isinstance(value, (int, float, str, bool, type(None))):
        yield path, repr(value).encode()
    elif id(value) not in seen:
        seen.add(id(value))
        for key, item in children(value):
            yield from pieces(item, f"{path}.{key}", seen)


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """What a container or an object holds."""
    if isinstance(value, dict):
        yield from ((str(key) if not isinstance(key, Tensor) else "parameter", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(place), item) for place, item in enumerate(value))
    elif (hasattr(value, "__dict__") and not callable(value)) or isinstance(value, nn.Module):
        yield from vars(value).items()


def trace(run: Run) -> dict[str, bytes]:
    """A hash of everything in a run, and of the generators."""
    held = {key: value for key, value in vars(run).items() if key not in ("nets", "_updated_by", "device")}
    # The order of the rows is a function of seed and epoch; what it keeps of its last answers is no state.
    found = {path: value for path, value in pieces(held) if "._cache" not in path}
    states = (repr(random.getstate()), repr(np.random.get_state()), repr(torch.default_generator.get_state().tolist()))
    return {**found, "generators": hashlib.sha256("".join(states).encode()).digest()}


@pytest.mark.parametrize("case", CASES)
def test_nothing_of_a_run_differs_afterwards(case: str, tmp_path: Path) -> None:
    run = build_run(compose([*runs.QUIET, *words(case, tmp_path)]))
    for module in run.modules.values():
        module.train()
        next(module.modules()).eval()  # flags that no call of train() would leave
        for p in module.parameters():
            p.grad = torch.ones_like(p)
    before = trace(run)
    assert sum(".data.sources" in key for key in before) > 2 and sum(key.startswith(".modules") for key in before) > 5
    run_checks(run, "check")
    after = trace(run)
    assert {key for key in {*before, *after} if before.get(key) != after.get(key)} == set()


def test_a_trace_would_be_seen(tmp_path: Path) -> None:
    run = build_run(compose([*runs.QUIET, *words("mlp", tmp_path)]))
    before = trace(run)
    with torch.no_grad():
        next(m for m in run.modules["model"].modules() if isinstance(m, nn.BatchNorm1d)).running_mean.add_(1)  # type: ignore[operator, union-attr]
    random.random()
    run.optimizers["optimizer"].param_groups[0]["lr"] = 1.0
    changed = {key for key, value in trace(run).items() if before.get(key) != value}
    assert len(changed) >= 3 and "generators" in changed


def test_inputs_that_a_network_writes_into_are_not_the_data(tmp_path: Path) -> None:
    from dlrun import registry

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.sub_(5))  # type: ignore[no-any-return]

    registry.PLUGINS["model"]["writes"] = Writes
    try:
        findings = {f.check: f for f in run_checks(build_run(compose([*runs.QUIET, "dataset=moons", "model=writes"])), "check")}
    finally:
        del registry.PLUGINS["model"]["writes"]
    assert findings["mode_switch"].level == "ok" and findings["mode_switch"].numbers["difference"] == 0
