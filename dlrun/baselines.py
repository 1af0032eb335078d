"""What costs nothing to reach: the commonest class, the mean target, a linear model, counts of tokens. They stand beside every result.

Each gives outputs of the form a network gives, so that the run's own metrics and loss read them: names are `<split>/<baseline>_<metric>`.
Linear models are fitted in closed form (ridge, on standardised inputs) on up to 4,096 rows of train; the others on all targets in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dlrun import registry
from dlrun.batch import Batch
from dlrun.checks._rows import scan
from dlrun.functional.criteria import reference
from dlrun.parts import slots
from dlrun.run import Run
from dlrun.task import LossTask
from dlrun.types import Mean, double

FIT_ROWS, FEATURES, VOCABULARY = 4096, 4096, 1024
TASKS = ("classification", "supervised", "language_model")
"""Tasks whose loss and metrics compare outputs with y."""
GENERATIVE = ("vae", "diffusion", "contrastive", "gan")
SECONDS = 0.5
"""Time for all of it; splits that need longer are read in part, which is said."""
RIDGE = 1e-2
Predictor = Callable[[Batch], Tensor]


@dataclass
class Baselines:
    """Values by name, and why there are none, or not all."""

    values: dict[str, float] = field(default_factory=dict)
    skipped: str = ""


def baselines(run: Run, splits: tuple[str, ...] = ("val", "test")) -> Baselines:
    """The baselines of `splits`; {} with a reason where the task has none. Nothing they meet can harm the result they stand beside."""
    try:
        return _baselines(run, splits)
    except Exception as error:
        return Baselines(skipped=f"none could be had ({type(error).__name__}: {' '.join(str(error).split())[:80]})")


def _baselines(run: Run, splits: tuple[str, ...]) -> Baselines:
    found, task, deadline = Baselines(), run.task, time.perf_counter() + SECONDS
    kind, name = getattr(task, "kind", "other"), run.config["task"]["name"]
    if not isinstance(task, LossTask) or task.couples_rows or name not in TASKS or kind in GENERATIVE:
        return Baselines(skipped=f"none is known for task {name} of kind {kind}")
    if not getattr(run.data.raw("train"), "in_memory", False):
        return Baselines(_of_targets(run, splits), "only the commonest class: rows are read one by one")
    rows = scan(run.data, "train", FIT_ROWS, SECONDS / 4)
    predictors = dict(_predictors(run, rows.x, rows.y))
    if not predictors:
        return Baselines(skipped="none is known for such targets")
    for split in splits:
        if split in run.data.rows:
            _evaluate(run, task, split, predictors, found, deadline)
    if not found.values and not found.skipped:
        found.skipped = "no metric reads outputs of this form"
    return found


def beaten(run: Run, metrics: Mapping[str, Any], values: Mapping[str, float]) -> list[str]:
    """A line for each split whose chosen metric is not better than its best baseline."""
    lines = []
    for name, metric in ((n, m) for n, m in run.task.metrics.items() if m.best):
        sign = 1 if metric.best == "max" else -1
        for split in ("train", "val", "test"):
            known = {key[len(split) + 1 : -len(name) - 1]: value for key, value in values.items() if key.startswith(f"{split}/")
                     and key.endswith(f"_{name}")}  # fmt: skip
            mine = metrics.get(f"{split}/{name}")
            if not known or not isinstance(mine, float):
                continue
            best = max(known, key=lambda key: sign * known[key])
            if sign * mine <= sign * known[best]:
                lines.append(f"{split} {name} {mine:.4g} is not better than {WORDS.get(best, best)} ({known[best]:.4g})")
    return lines


def baseline_lines(run: Run, metrics: Mapping[str, Any], found: Baselines) -> list[str]:
    """What is printed below the metrics of an evaluation."""
    texts = [f"{name.replace('/', ' ').replace('_', ' ')} {value:.4g}" for name, value in found.values.items()]
    lines = [f"baselines: {' · '.join(texts)}"] if texts else []
    return lines + ([f"baselines: {found.skipped}"] if found.skipped else []) + beaten(run, metrics, found.values)


WORDS = {
    "majority": "always naming the commonest class",
    "mean": "always naming the mean",
    "prior": "naming each class as often as it occurs",
    "linear": "a linear model",
    "unigram": "the frequencies of tokens",
    "bigram": "the frequencies of pairs of tokens",
}


def _predictors(run: Run, x: Any, y: Any) -> Iterator[tuple[str, Predictor]]:
    """Named functions from a batch to outputs of the form that a network gives."""
    spec = run.data.spec
    every = run.data.targets("train")
    if not isinstance(y, Tensor):
        return
    every = y if every is None else every
    whole = not y.is_floating_point()
    count = spec.vocab if whole and y.dim() == 2 and spec.vocab else spec.classes
    if whole and count and getattr(run.task, "kind", "") not in ("regression", "binary"):
        counts = torch.bincount(every[every >= 0].flatten().long(), minlength=count).double() + (1.0 if y.dim() > 1 else 0.0)
        prior = (counts / counts.sum()).clamp_min(1e-9).log().float()
        axis = -1 if y.dim() == 1 or spec.vocab else 1
        yield ("unigram" if spec.vocab else "majority"), lambda batch: _spread(prior, batch["y"], axis)
        if y.dim() == 1 and _is_table(x):
            sides = torch.nn.functional.one_hot(y.clamp_min(0).long(), count).float()
            yield "linear", linear(x, sides)
        if spec.vocab and isinstance(x, Tensor) and x.shape == y.shape and count <= VOCABULARY:
            yield "bigram", bigram(x, y, count)
        return
    target = every.float()
    mean = target[torch.isfinite(target).reshape(len(target), -1).all(1)].mean(0)
    binary = getattr(run.task, "kind", "") == "binary"
    mean = (mean + 1) / 2 if binary and run.scores.signed else mean
    constant = torch.logit(mean.clamp(1e-4, 1 - 1e-4)) if binary else mean
    yield ("majority" if binary else "mean"), lambda batch: constant.to(batch["y"].device).expand(batch["y"].shape)
    if _is_table(x) and y.dim() <= 2:
        fitted = linear(x, (y.float() if run.scores.signed or not binary else 2 * y.float() - 1).reshape(len(y), -1))
        yield "linear", lambda batch: fitted(batch).reshape(batch["y"].shape)


def _is_table(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1 and x[0].numel() <= FEATURES


def _spread(prior: Tensor, y: Tensor, axis: int) -> Tensor:
    """One distribution for every target: classes on the last axis, or on axis 1."""
    out = prior.to(y.device).expand(*y.shape, len(prior))
    return out if axis == -1 else out.movedim(-1, 1)


def linear(x: Tensor, y: Tensor) -> Predictor:
    """Ridge regression from standardised inputs to y [N, K], solved in whichever of rows and features is fewer."""
    flat, y = x.flatten(1).float(), y.float()
    middle, size = flat.mean(0), flat.std(0, correction=0)
    size = torch.where(size > 1e-6, size, torch.ones_like(size))
    flat, level = (flat - middle) / size, y.mean(0)
    rows, features = flat.shape
    penalty = RIDGE * rows
    if features <= rows:
        weight = torch.linalg.solve(flat.T @ flat + penalty * torch.eye(features).to(flat), flat.T @ (y - level))
    else:
        weight = flat.T @ torch.linalg.solve(flat @ flat.T + penalty * torch.eye(rows).to(flat), y - level)
    return lambda batch: ((batch["x"].flatten(1).float() - middle) / size) @ weight + level


def bigram(x: Tensor, y: Tensor, count: int) -> Predictor:
    """Log frequencies of the next token by the one before it, each pair counted once more than it occurs by its token's share."""
    seen = (y >= 0).flatten()
    pairs = torch.bincount((x.flatten() * count + y.flatten())[seen].long(), minlength=count * count).double().view(count, count)
    share = (pairs.sum(0) + 1) / (pairs.sum() + count)
    table = ((pairs + share) / (pairs.sum(1, keepdim=True) + 1)).log().float()
    return lambda batch: table.to(batch["x"].device)[batch["x"]]


def _evaluate(run: Run, task: LossTask, split: str, predictors: Mapping[str, Predictor], found: Baselines, deadline: float) -> None:
    """Add the values of every predictor on `split`; what the metrics cannot read is left out and said."""
    wanted = _metrics(task)
    plain_loss = _loss_is_known(run)
    totals: dict[str, Any] = {}
    seen = 0
    for batch in run.data.evaluation(split):
        if time.perf_counter() > deadline and seen:
            found.skipped = f"baselines of {split}: of the first {seen} rows"
            break
        seen += len(batch)
        for name, predict in predictors.items():
            try:
                out = _as_a_network(run, predict(batch), batch)
                values = dict(_values(task, name, out, batch, wanted, plain_loss))
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                found.skipped = f"{name}: not read by these metrics ({str(error).splitlines()[0][:80]})"
                continue
            totals.update({key: totals[key] + value if key in totals else value for key, value in values.items()})
    found.values.update({f"{split}/{key}": float(total.value()) for key, total in totals.items()})


def _as_a_network(run: Run, logits: Tensor, batch: Batch) -> Tensor:
    """Logits as what a network of this run gives, be it probabilities."""
    return run.scores.outputs(logits, batch["y"], getattr(run.task, "kind", None))


def _values(task: LossTask, name: str, out: Tensor, batch: Batch, wanted: list[str], plain_loss: bool) -> Iterator[tuple[str, Any]]:
    logits, y, rows = task.compared(out, batch)
    for metric in wanted:
        yield f"{name}_{metric}", task.metrics[metric](logits, y, rows)
    if plain_loss and name != "linear":
        count = double(task.count(batch))
        loss = task.loss(out, batch)
        loss = loss[0] if isinstance(loss, tuple) else loss
        yield f"{'prior' if name == 'majority' else name}_loss", Mean(double(loss) * count, count)


def _metrics(task: LossTask) -> list[str]:
    """The metric that chooses `best`, and accuracy."""
    chosen = [name for name, metric in task.metrics.items() if metric.best][:1]
    return [name for name in dict.fromkeys([*chosen, "accuracy"]) if name in task.metrics]


def _loss_is_known(run: Run) -> bool:
    """Whether the loss is one of dlrun's own that reads outputs as they are."""
    names = [part["name"] for part in slots(run.config.get("loss"), "loss").values()]
    known = all(name not in registry.PLUGINS["loss"] for name in names)
    return known and reference(run.task.criterion, "floor", run.data.spec) is not None


def _of_targets(run: Run, splits: tuple[str, ...]) -> dict[str, float]:
    """Accuracy of the commonest class, from targets alone."""
    train, classes = run.data.targets("train"), run.data.spec.classes
    if not classes or "accuracy" not in run.task.metrics or train is None or train.dim() != 1 or train.is_floating_point():
        return {}
    common = torch.bincount(train[train >= 0].long(), minlength=classes).argmax()  # -100 is no class
    found = {}
    for split in splits:
        targets = run.data.targets(split) if split in run.data.rows else None
        if targets is not None and bool((targets >= 0).any()):
            found[f"{split}/majority_accuracy"] = float((targets[targets >= 0] == common).double().mean())
    return found
