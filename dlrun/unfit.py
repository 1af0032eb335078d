"""Metrics that cannot read this network's outputs, or the mixed labels of its training batches: left out, and said."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from dlrun.evaluate import evaluating
from dlrun.noise import Noise, seed_generators
from dlrun.parts import slots
from dlrun.run import Run
from dlrun.task import LossTask


def drop_unfit_metrics(run: Run) -> list[str]:
    """Take out metrics that nobody asked for and that cannot read this network's outputs; returns a line for each.

    A task brings its usual metrics along (accuracy for classes); a user's own network and loss may use outputs of another form.
    """
    task, configured = run.task, slots(run.config.get("metric"), "metric")
    asked = {*configured, *(part["name"] for part in configured.values())}
    usual = [name for name in task.metrics if name not in asked]
    if not usual or not isinstance(task, LossTask):
        return []
    split = "val" if "val" in run.data.rows else "train"
    batch = run.data.head(split, 2)
    noise = Noise(run.seed, "metrics")
    try:
        with evaluating(run.modules), run.precision.autocast():
            seed_generators(*noise.key)
            batch = task.prepare(batch, noise)
            logits = task.logits(task.outputs(run.nets, batch))
    except Exception:  # the same forward fails again where it can be reported: in the checks, or in the first step
        return []
    lines = []
    for name in usual:
        try:
            task.metrics[name](logits, batch.get("y"), len(batch)).value()
        except (ValueError, RuntimeError, IndexError, KeyError, TypeError, AttributeError) as error:
            lines.append(f"metric {name} is left out, it does not fit these outputs: {str(error).splitlines()[0]}")
            task.metrics = {key: metric for key, metric in task.metrics.items() if key != name}
    return lines


def spare_mixed_labels(run: Run) -> list[str]:
    """Where augmentations mix labels: metrics of training batches that do not say that they read such targets (`soft`) are not taken there.

    Returns a line for each; val and test, which are never augmented, have them all.
    """
    if not run.data.mixed_labels:
        return []
    blind = [name for name, metric in run.task.metrics.items() if metric.batches and not metric.whole and not _reads_soft(metric.function)]
    run.task.metrics = {name: replace(metric, batches=metric.batches and name not in blind) for name, metric in run.task.metrics.items()}
    return [f"metric {name} is not taken of training batches: their labels are mixed, which it does not say it can read" for name in blind]


def _reads_soft(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return bool(getattr(function, "soft", False))
