"""Whether a run measures the goal that was named: a mistyped metric is told before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlrun.config.composing import Config
from dlrun.config.messages import hint, listing, nearest
from dlrun.config.places import printable
from dlrun.errors import DlrunError, UsageError
from dlrun.study.plan import Goal

ROWS = 8


def refuse_unmeasured(goal: Goal | None, config: Config) -> None:
    """UsageError where the run of `config` has no such validation metric.

    Names that the config settles cost nothing; for others the parts are built and evaluated on a few rows. Parts that cannot be built are
    no matter of the goal: the run will say what is wrong with them.
    """
    split, _, name = goal.metric.partition("/") if goal else ("", "", "")
    if split not in ("val", "val_ema"):
        return
    train = config.resolved["train"]
    if "val" not in train["eval_splits"]:
        raise UsageError(f"goal {split}/{printable(name, 80)}: val is not in train.eval_splits")
    if split == "val_ema" and train["ema"] is None:
        raise UsageError(
            f"goal {split}/{printable(name, 80)}: no average of the weights is kept; say train.ema=0.999, or val/{printable(name, 80)}"
        )
    if name in _settled(config.resolved):
        return
    try:
        have = _measured(config)
    except DlrunError:
        return
    if name not in have:
        metric = f"{split}/{name}"
        near = hint(nearest(name, have), f"{split}/")
        raise UsageError(f"goal {printable(metric, 80)}: not measured; there are {listing([f'{split}/{one}' for one in have])}{near}")


def _settled(config: Mapping[str, Any]) -> set[str]:
    """Metrics that a run has for certain."""
    if config["task"].get("name") != "classification":
        return set()
    metric = config["metric"]
    return {"loss", *([metric["name"]] if isinstance(metric.get("name"), str) else metric or ["accuracy"])}


def _measured(config: Config) -> list[str]:
    """The names that an evaluation gives."""
    from dlrun.evaluate import evaluating
    from dlrun.noise import Noise
    from dlrun.train import build_run

    run = build_run(config, load_start=False)
    try:
        with evaluating(run.modules):
            batch = run.data.head("val", ROWS)
            found = run.task.evaluate(run.networks(run.modules), run.task.prepare(batch, Noise(run.seed, 0, "val", 0, "eval")))
            return list(found)
    finally:
        run.data.close()
