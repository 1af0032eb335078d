"""Which metrics fit a run. One rule: a metric says which forms of targets it reads, the task's kind which form its targets have.

A metric that somebody asked for and that does not fit is an error before the first step; one that only came along with the task is left
out, and said. Where the kind says nothing (other, vae, graph ...) two rows decide: a metric that raises on them does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from dlrun import registry
from dlrun.errors import UsageError
from dlrun.evaluate import evaluating
from dlrun.noise import Noise, seed_generators
from dlrun.parts import slots
from dlrun.run import Run
from dlrun.scoring import Reading
from dlrun.task import LossTask

FORMS = {
    "classification": "classes",
    "language_model": "classes",
    "binary": "labels",
    "regression": "numbers",
    "gan": "samples",
    "contrastive": "embeddings",
}
"""Kind of learning -> the form of its targets, as metrics name it in `reads`."""
UNSAID = ("graph", "sequence", "other")
"""Kinds that say how inputs are laid out, not what is predicted: there the data's own kind counts."""
MISFITS = (ValueError, RuntimeError, IndexError, KeyError, TypeError, AttributeError)


def drop_unfit_metrics(run: Run) -> list[str]:
    """Take out metrics that nobody asked for and that do not fit; returns a line for each. UsageError for one that was asked for.

    A task brings its usual metrics along (accuracy for classes); a user's own network and loss may use outputs of another form.
    """
    configured = slots(run.config.get("metric"), "metric")
    asked = {(part["name"] if slot == "metric" else slot): part["name"] for slot, part in configured.items()}
    for slot, name in asked.items():
        _refuse_other_forms(run, slot, name)
    if not isinstance(run.task, LossTask):
        return []
    lines = []
    for slot, reason in _misfits(run, run.task).items():
        if slot not in asked:
            lines.append(f"metric {slot} is left out, it does not fit these outputs: {reason}")
            run.task.metrics = {key: metric for key, metric in run.task.metrics.items() if key != slot}
        elif asked[slot] not in registry.PLUGINS["metric"]:  # a plugin's own exception is shown with its traceback
            raise UsageError(f"metric {slot} does not fit these outputs: {reason.removeprefix(f'{asked[slot]}: ')}")
    return lines


def _refuse_other_forms(run: Run, slot: str, name: str) -> None:
    """UsageError where the metric reads targets of another form than this task has."""
    kind, reads = getattr(run.task, "kind", None), run.task.metrics[slot].reads
    target = FORMS.get(run.data.spec.kind if kind in UNSAID else str(kind))
    if target is None or not reads or target in reads:
        return
    fitting = [other for other in registry.names("metric") if target in getattr(registry.get("metric", other), "reads", ())]
    raise UsageError(
        f"metric {slot}: {name} reads {' or '.join(reads)}, but task {run.config['task']['name']} of kind {kind} has {target}: "
        f"take {', '.join(fitting) if fitting else 'a metric of your own'}"
    )


def _misfits(run: Run, task: LossTask) -> dict[str, str]:
    """Metrics that raise on two rows, and what they say. UsageError where the task cannot take this data at all."""
    split = "val" if "val" in run.data.rows else "train"
    batch = run.data.head(split, 2)
    noise = Noise(run.seed, "metrics")
    try:
        with evaluating(run.modules), run.precision.autocast():
            seed_generators(*noise.key)
            batch = task.prepare(batch, noise)
            logits = task.logits(task.outputs(run.nets, batch))
    except UsageError:
        raise
    except Exception:  # the same forward fails again where it can be reported: in the checks, or in the first step
        return {}
    found = {}
    for name, metric in task.metrics.items():
        try:
            metric(logits, batch.get("y"), len(batch)).value()
        except MISFITS as error:
            found[name] = (str(error).splitlines() or [type(error).__name__])[0]
    return found


def say_undefined(run: Run, split: str, values: Mapping[str, float], say: Callable[[str, str], None]) -> None:
    """Say once a run and split why a metric is NaN, where the metric knows when it is undefined."""
    for name, value in values.items():
        metric = run.task.metrics.get(name)
        if metric is not None and metric.undefined and value != value and f"{split}/{name}" not in run.said:
            run.said.add(f"{split}/{name}")
            say(f"{split}/{name} is nan: {metric.undefined}", "warning")


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
    while isinstance(function, (partial, Reading)):
        function = function.func
    return bool(getattr(function, "soft", False))
