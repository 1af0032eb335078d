"""Schema of the root keys that are not parts: the annotations are types and ranges, the values stand in `conf/config.yaml`.

Imports no torch: it is read before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlrun.ranges import Count, Decay, Index, Positive, Seed


@dataclass(frozen=True)
class Train:
    """How to train: `train.*`."""

    steps: Index | None
    epochs: Positive | None
    batch_size: Count | Literal["full"]
    accumulate: Count
    eval_every: Index
    eval_splits: list[Literal["train", "val", "test"]]
    log_every: Count
    checkpoint_every: Index
    keep_last: Count
    clip_norm: Positive | None
    ema: Decay | None
    precision: Literal["fp32", "bf16", "fp16"]
    compile: bool
    channels_last: bool
    cudnn_benchmark: bool
    deterministic: bool
    workers: Index
    threads: Count | None
    max_seconds: Positive | None


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases: `log.wandb.*`."""

    mode: Literal["offline", "online", "disabled"]
    project: str | None
    entity: str | None
    group: str | None
    name: str | None
    tags: list[str]
    notes: str | None
    log_model: bool


@dataclass(frozen=True)
class Log:
    """Where results are copied to: `log.*`."""

    wandb: Wandb
    tensorboard: bool


@dataclass(frozen=True)
class Start:
    """Weights from another run: `start.*` (`from` is a Python keyword, hence the underscore here and nowhere else)."""

    from_: str
    step: Literal["best", "last"] | Index
    networks: dict[str, str]
    freeze: list[str]
    strict: bool


EXPECTS: dict[str, Any] = {
    "causal": bool,
    "frozen": list[str],
    "pretrained": bool,
    "stochastic_data": bool,
    "stochastic_train": bool,
    "stochastic_eval": bool,
    "batch_coupled_loss": bool,
    "rows_interact": bool,
    "loss_may_rise": bool,
    "repeated_inputs": bool,
    "static_rows": bool,
}
"""Facts a user may declare; each turns its check into an assertion."""


@dataclass(frozen=True)
class Root:
    """The other keys at the root of a config."""

    experiment: str | None
    arm: str | None
    seed: Seed
    seeds: Count | list[Seed]
    device: str
    run_dir: Path | None
    output_root: Path
    probes: list[str]
    checks: Literal["fast", "deep", "none"]
    checks_on_error: Literal["stop", "continue"]
    arms: dict[str, Any]
    axes: dict[str, Any]
    tune: dict[str, Any] | None
    events: dict[str, str]
    measures: dict[str, Any]
    claims: list[Any]
    recorded: str | None
    source: str | None
    tags: list[str]
