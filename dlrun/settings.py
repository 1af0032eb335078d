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
    replica: Index


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases: `log.wandb.*`."""

    mode: Literal["offline", "online", "disabled"] | None
    project: str | None
    entity: str | None
    group: str | None
    name: str | None
    tags: list[str]
    notes: str | None
    log_model: bool | Literal["best", "all"]


@dataclass(frozen=True)
class Log:
    """Where results are copied to: `log.*`."""

    wandb: Wandb
    tensorboard: bool
    watch: Literal["none", "gradients", "parameters", "all"]
    watch_every: Count


@dataclass(frozen=True)
class Start:
    """Weights from another run: `start.*` (`from` is a Python keyword, hence the underscore here and nowhere else)."""

    from_: Path  # the run's folder, or an arm of the same experiment
    step: Literal["best", "last"] | Index  # which of its checkpoints: best, last, or that of a step
    networks: dict[str, str]  # mine: theirs; empty: every network from the one of its own name
    freeze: list[str]  # parameters that stay as they are, by pattern: encoder.*
    strict: bool  # true: every entry has to find its place; false: what does not fit is left out and said


EXPECTS: dict[str, Any] = {
    "causal": bool,  # an output depends on no later position
    "frozen": list[str],  # patterns of parameters that do not change
    "pretrained": bool,  # the weights are trained ones: the first loss may lie below chance
    "stochastic_data": bool,  # the same row may come out differently when read again
    "stochastic_train": bool,  # training mode draws noise (dropout)
    "stochastic_eval": bool,  # evaluation draws noise too (sampling)
    "batch_coupled_loss": bool,  # the loss of a row depends on the other rows (contrastive)
    "rows_interact": bool,  # an output depends on the other rows, in evaluation too (batch norm in training is no case of it)
    "loss_may_rise": bool,  # the loss need not fall (players against each other)
    "repeated_inputs": bool,  # the data holds the same row more than once
    "static_rows": bool,  # every row is the same at every reading
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
    probes: list[str | dict[str, Any]]
    checks: Literal["fast", "deep", "none"]
    checks_on_error: Literal["stop", "continue"]
    arms: dict[str, Any]
    axes: dict[str, Any]
    tune: dict[str, Any] | None
    events: dict[str, str]
    measures: dict[str, Any]
    claims: list[Any]
    baseline: dict[str, Any] | None
    figure: dict[str, Any] | None
    cost: Positive | None
    recorded: Literal["reproduced", "not_reproduced", "undecided"] | None
    source: str | None
    tags: list[str]
