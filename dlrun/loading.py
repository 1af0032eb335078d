"""A finished run in Python: `run = load("outputs/..."); run.model(x)`.

A run never brings code with it: one that used a plugin needs that plugin imported first (or named in `plugins`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dlrun.build import build
from dlrun.config import Config, compose
from dlrun.data import Data
from dlrun.errors import MissingError
from dlrun.plain_files import only_plain
from dlrun.plugins import load_plugins
from dlrun.run import Run
from dlrun.start import find_checkpoint
from dlrun.state import fill


class Loaded:
    """A trained run: `.networks` (ordinary modules in eval mode, by name), `.model` where there is one, `.config`, `.data`, `.step`."""

    def __init__(self, config: Config, run: Run, step: int) -> None:
        self.config: dict[str, Any] = config.saved
        self.networks: dict[str, nn.Module] = {name: module for name, module in run.modules.items() if name != "loss"}
        self.step = step
        self._run = run

    @functools.cached_property
    def data(self) -> Data:
        """The run's data: `.evaluation("test")`, `.spec`, `.rows`."""
        return self._run.data

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
    return Loaded(config, built, source.step)


def best_or_last(path: Path) -> str:
    """`best` where the run's summary names one whose checkpoint is there, else `last`."""
    try:
        find_checkpoint(path, "best")
    except MissingError:
        return "last"
    return "best"
