"""From a validated config to a `Run`: dataset -> task -> networks -> start weights -> optimizers -> schedules.

Every part is looked up in a registry by the name in its slot and given by name what it asks for left of its star.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dlrun.augmenting import add_augments, build_augments
from dlrun.config import Config
from dlrun.data import Data, cache_root, prepare
from dlrun.ema import Ema
from dlrun.errors import DlrunError, UsageError
from dlrun.functional.criteria import couples_rows
from dlrun.masking import mask_notes
from dlrun.noise import hash32, seed_generators
from dlrun.owners import build_optimizers
from dlrun.parts import build_loss, build_metrics, make, slots
from dlrun.passes import check_passes
from dlrun.precision import Precision
from dlrun.run import Run
from dlrun.scoring import settle_scores
from dlrun.start import begin_from, freeze, refuse_arm
from dlrun.task import Task
from dlrun.types import DataSpec, NetworkShape, Splits
from dlrun.unfit import drop_unfit_metrics, spare_mixed_labels

RESERVED = ("optimizer", "ema", "state", "loss")
"""Names that files of a checkpoint and losses with parameters have; no network may have them."""


def build_networks(config: Mapping[str, Any], task: Task, spec: DataSpec, seed: int) -> dict[str, nn.Module]:
    """One module a network of the task, each initialised from a seed of its own so that adding one shifts no other."""
    shapes = {name: NetworkShape(*shape) for name, shape in task.networks(spec).items()}
    parts = slots(config.get("model"), next(iter(shapes)) if len(shapes) == 1 else "model")
    if set(parts) != set(shapes):
        say = " ".join(f"model.{name}=mlp" for name in shapes)
        raise UsageError(
            f"task {config['task']['name']} has networks {', '.join(shapes)}, the config has {', '.join(parts) or 'none'}: say {say}"
        )
    modules: dict[str, nn.Module] = {}
    odd = [name for name in shapes if not name.isidentifier() or name in RESERVED]
    if odd:
        raise UsageError(f"task {config['task']['name']}: network {odd[0]!r} needs another name: an identifier, not {', '.join(RESERVED)}")
    for name, shape in shapes.items():
        seed_generators(seed, "init", name)
        supplied = {"in_shape": shape.in_shape, "out_shape": shape.out_shape, "classes": spec.classes, "vocab": spec.vocab}
        module = make("model", parts[name], supplied)
        if not isinstance(module, nn.Module):
            raise UsageError(f"model {parts[name]['name']} returned a {type(module).__name__}, expected a torch.nn.Module")
        modules[name] = module
    return modules


def choose_device(name: str) -> torch.device:
    """The device to train on; `auto` takes CUDA, then Apple's MPS, then the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0][:120]
        raise UsageError(f"device={name} cannot be used here ({reason}): say device=auto or device=cpu") from None
    return device


def build_data(config: Mapping[str, Any], seed: int, device: torch.device) -> Data:
    """The dataset, split, described and ready to stream; its augmentations come with the task (`add_augments`)."""
    node = config["dataset"]
    splits = make("dataset", node, {"root": str(cache_root()), "seed": node.get("seed", 0)})
    if not isinstance(splits, Splits):
        raise UsageError(f"dataset {node['name']} returned a {type(splits).__name__}, expected dlrun.Splits(train, val, test)")
    train = config["train"]
    try:
        return prepare(
            splits,
            dataset_seed=node.get("seed", 0),
            seed=seed,
            batch_size=train["batch_size"],
            accumulate=train["accumulate"],
            workers=train["workers"],
            device=device,
            augments=(),
            name=node["name"],
        )
    except ValueError as error:
        if isinstance(error, DlrunError):
            raise
        raise UsageError(f"dataset {node['name']}: {error}") from error


def replica_seed(seed: int, replica: int) -> int:
    """What initial weights, order and noise are drawn from: the seed itself for replica 0, else a number made of both."""
    return hash32(seed, "replica", replica) if replica else seed


def class_counts(data: Data) -> tuple[int, ...] | None:
    """Rows (or tokens) of each class in train; None where the targets are no classes, or not in memory."""
    y, classes = data.targets("train"), data.spec.classes or data.spec.vocab
    if y is None or y.is_floating_point() or not classes:
        return None
    return tuple(torch.bincount(y[y >= 0].flatten().long(), minlength=classes).tolist())


def build_task(config: Mapping[str, Any], data: Data) -> Task:
    """The task with its loss and metrics. UsageError where a loss over the whole batch meets accumulation."""
    name, part = config["task"]["name"], config.get("loss") or {}
    task: Task = make(
        "task", config["task"], {"spec": data.spec, "augments": build_augments(config.get("augment"), data.spec.classes)}, "slots"
    )
    loss = build_loss(part, task, data.spec, {"class_counts": lambda: class_counts(data)})
    task.bind(data.spec, loss, {})  # which metrics are usual may depend on the loss
    task.bind(data.spec, loss, build_metrics(config.get("metric"), task, data.spec))
    who = f"task {name}" if task.couples_rows else f"loss {part.get('name') or task.default_loss(data.spec)}"
    task.couples_rows = task.couples_rows or couples_rows(loss)
    if task.couples_rows and config["train"]["accumulate"] > 1:
        raise UsageError(f"{who} couples the rows of a batch: parts of it would give another loss; train.accumulate must be 1")
    return task


def build(config: Config, *, with_optimizers: bool = True, load_start: bool = True) -> Run:
    """Build every part of a run; UsageError or MissingError where one cannot be."""
    tree = config.resolved
    train = tree["train"]
    seed = replica_seed(int(tree["seed"]), train["replica"])
    device = choose_device(tree["device"])
    data = build_data(tree, seed, device)
    task = build_task(tree, data)
    add_augments(data, tree.get("augment"), task)
    notes = [*config.notes, *data.notes]
    modules = build_networks(tree, task, data.spec, seed)
    notes += [f"network {name}: {note}" for name, module in modules.items() if isinstance(note := getattr(module, "note", None), str)]
    if isinstance(task.criterion, nn.Module) and any(True for _ in task.criterion.parameters()):
        modules["loss"] = task.criterion
    if tree.get("start"):
        refuse_arm(tree)
        notes += begin_from(tree["start"], modules) if load_start else freeze(tree["start"].get("freeze") or [], modules)
    for module in modules.values():
        module.to(device)
    steps = int(train["steps"] if train["steps"] is not None else data.steps_in(train["epochs"]))
    if train["steps"] is None:
        notes.append(f"train.epochs={train['epochs']:g} is {steps} steps of {data.batch_size} rows")
    optimizers, owned, schedulers = build_optimizers(tree, modules, steps) if with_optimizers else ({}, {}, {})
    if train["steps"] is None and any(scheduler.stretches for scheduler in schedulers.values()):
        notes.append(f"the schedule is stretched over these {steps} steps: with other epochs, rows or batches rates differ at every step")
    run = Run(
        tree, config.saved, seed, device, data, task, modules, optimizers, owned, schedulers, Precision(train["precision"], device), steps
    )
    check_passes(run)
    run.notes = notes
    if train["ema"] is not None and with_optimizers:
        run.ema = Ema(modules, train["ema"])
    run.notes += [note] if isinstance(note := getattr(task, "note", None), str) else []
    run.notes += [*drop_unfit_metrics(run), *settle_scores(run), *spare_mixed_labels(run), *mask_notes(run)]
    seed_generators(seed, "start")
    task.start(run.nets)
    return run
