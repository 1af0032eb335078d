"""Metrics that a task brings along but that cannot read this network's outputs: left out, and said."""

from __future__ import annotations

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
