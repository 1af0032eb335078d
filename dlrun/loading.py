"""A finished run in Python: `run = load("outputs/..."); run.model(x)`.

A run never brings code with it: one that used a plugin needs that plugin imported first (or named in `plugins`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.build import build, build_networks
from dlrun.claims.evidence import read_run
from dlrun.config import compose
from dlrun.data import Data
from dlrun.errors import MissingError
from dlrun.evaluate import evaluate
from dlrun.noise import Noise, seed_generators
from dlrun.plain_files import only_plain
from dlrun.plugins import load_plugins
from dlrun.run import Run
from dlrun.start import find_checkpoint
from dlrun.state import fill, restore_task
from dlrun.task import Task
from dlrun.types import DataSpec, Networks


class Loaded:
    """A trained run: `.networks` (ordinary modules in eval mode, by name), `.model` where there is one, `.config`, `.data`, `.step`.

    What probes read beside these (`.task`, `.nets`, `.batches`, `.evaluate` ...) is described in `dlrun/trained.py`.
    """

    def __init__(self, run: Run, step: int, path: Path) -> None:
        self.config: dict[str, Any] = run.saved
        self.networks: dict[str, nn.Module] = {name: module for name, module in run.modules.items() if name != "loss"}
        self.step, self.path = step, path
        self._run = run

    @functools.cached_property
    def data(self) -> Data:
        """The run's data: `.evaluation("test")`, `.spec`, `.rows`."""
        return self._run.data

    @property
    def settings(self) -> dict[str, Any]:
        """`train.*` of its config."""
        return self._run.train

    @property
    def task(self) -> Task:
        """The task, with the state it ended with."""
        return self._run.task

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The networks and, where it has parameters of its own, the `loss`."""
        return self._run.modules

    @property
    def nets(self) -> Networks:
        """The networks as the task sees them."""
        return self._run.nets

    @property
    def spec(self) -> DataSpec:
        """What the dataset says of itself."""
        return self._run.data.spec

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self._run.seed

    @property
    def device(self) -> torch.device:
        """Where networks and batches lie."""
        return self._run.device

    def rows(self, split: str, most: int | None) -> Tensor:
        """Numbers of the rows of `split` to look at, ascending: all, or `most` of them drawn from the run's seed; ValueError without."""
        if split not in self.data.rows:
            raise ValueError(f"this data has no split {split!r}; there are {', '.join(self.data.rows)}")
        count = self.data.rows[split]
        if most is None or most >= count:
            return torch.arange(count)
        drawn = torch.randperm(count, generator=Noise(self.seed, "probe rows").generator(split))
        return drawn[:most].sort().values

    def batches(self, split: str, most: int | None = None, size: int = 512) -> Iterator[Batch]:
        """These rows as the network gets them, not augmented, at most `size` at a time."""
        for rows in self.rows(split, most).split(size):
            yield self.data.pick(split, rows)

    def prepared(self, split: str, most: int | None = None, size: int = 512) -> Iterator[Batch]:
        """The same after the task's own `prepare`, under noise keyed by seed and place."""
        for number, batch in enumerate(self.batches(split, most, size)):
            yield self._prepare(batch, "probe", split, number)

    def training_batches(self, steps: int) -> Iterator[Batch]:
        """The batches of the first `steps` steps as training saw them: in its order, augmented, prepared."""
        for step in range(steps):
            for number, batch in enumerate(self.data.batches(step)):
                yield self._prepare(batch, step, "probe", number)

    def _prepare(self, batch: Batch, *place: int | str) -> Batch:
        noise = Noise(self.seed, *place)
        seed_generators(*noise.key)
        return self.task.prepare(batch, noise)

    def series(self, metric: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """(steps, values) of a metric over the training, as metrics.jsonl has them ("val/loss"); ValueError where it was not logged."""
        logged = read_run(self.path).series
        if metric not in logged:
            raise ValueError(f"{metric!r} was not logged; metrics.jsonl has {', '.join(sorted(logged))}")
        return logged[metric].steps, logged[metric].values

    def evaluate(self, split: str, modules: Mapping[str, nn.Module] | None = None) -> dict[str, float]:
        """The metrics training would have written for `split`, of these networks or of `modules` in their place."""
        if split not in self.data.rows:
            raise ValueError(f"this data has no split {split!r}; there are {', '.join(self.data.rows)}")
        return evaluate(self._run, self.modules if modules is None else modules, split, self.step)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} ({sum(p.numel() for p in net.parameters())} parameters)" for name, net in self.networks.items())
        return f"<run {self.config.get('experiment') or self.config['dataset']['name']} at step {self.step}: {sizes}>"

    def __getattr__(self, name: str) -> nn.Module:
        networks = self.__dict__.get("networks", {})
        if name in networks:
            return networks[name]  # type: ignore[no-any-return]
        raise AttributeError(f"this run has networks {', '.join(networks)} and config, data, step; not {name!r}")


def load(
    run: str | Path, step: str | int = "best", plugins: Sequence[str] = (), ema: bool = False, overrides: Sequence[str] = ()
) -> Loaded:
    """The run in folder `run` with the weights of `step` ("best" falls back to "last" where no validation value chose one).

    `ema=True` gives the averaged weights; `overrides` change its config, as where its data lie (`dataset.path=...`).
    Raises MissingError where the folder holds no run or no whole checkpoint.
    """
    path = Path(run).expanduser()
    if not (path / "config.yaml").is_file():
        raise MissingError(f"{path} is no run directory: it has no config.yaml")
    only_plain(path)
    load_plugins(plugins)
    config = compose(overrides, from_file=path / "config.yaml")
    built = build(config, with_optimizers=False, load_start=False)
    source = find_checkpoint(path, best_or_last(path) if step == "best" else step)
    if ema and "ema" not in source.tensors:
        raise MissingError(f"{source.path} holds no averaged weights: the run had train.ema=null")
    for name in source.networks():
        if name not in built.modules:
            raise MissingError(f"{source.path} holds network {name}, the config builds {', '.join(built.modules)}")
    for name, module in built.modules.items():
        averaged = {
            key.removeprefix(f"{name}."): value for key, value in source.tensors.get("ema", {}).items() if key.startswith(f"{name}.")
        }
        fill(f"{source.path}/{name}.safetensors", module, averaged if ema else source.tensors.get(name, {}))
        module.eval()
    restore_task(built, source)
    return Loaded(built, source.step, path)


def trained(run: Run, step: int, path: Path) -> Loaded:
    """A run that has just been trained, with copies of its networks: whoever reads it can neither change it nor sees what compiled it."""
    modules = build_networks(run.config, run.task, run.data.spec, run.seed)
    if "loss" in run.modules:
        modules["loss"] = run.modules["loss"]
    for name, module in modules.items():
        if name != "loss":
            module.load_state_dict(run.modules[name].state_dict())
            for mine, theirs in zip(module.parameters(), run.modules[name].parameters(), strict=True):
                mine.requires_grad_(theirs.requires_grad)
        module.to(run.device).eval()
    return Loaded(replace(run, modules=modules), step, path)


def best_or_last(path: Path) -> str:
    """`best` where the run's summary names one whose checkpoint is there, else `last`."""
    try:
        find_checkpoint(path, "best")
    except MissingError:
        return "last"
    return "best"
