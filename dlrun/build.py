"""From a validated config to a `Run`: dataset -> task -> networks -> start weights -> optimizers -> schedules.

Every part is looked up in a registry by the name in its slot and given by name what it asks for left of its star.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlrun import registry
from dlrun.config import Config, defaults
from dlrun.data import Data, prepare
from dlrun.ema import Ema
from dlrun.errors import DlrunError, UsageError
from dlrun.noise import Noise, seed_generators
from dlrun.precision import Precision
from dlrun.registry import wire, wiring
from dlrun.schedule import Scheduler
from dlrun.start import begin_from, freeze
from dlrun.task import LossTask, Task
from dlrun.types import DataSpec, Metric, Networks, NetworkShape, Splits

Named = list[tuple[str, nn.Parameter]]
METRIC_FACTS = {"best": None, "whole": False, "batches": True}
"""What a metric may say of itself, and what holds where it does not."""


@dataclass
class Run:
    """The built parts of one training; nothing here decides anything."""

    config: dict[str, Any]
    saved: dict[str, Any]
    seed: int
    device: torch.device
    data: Data
    task: Task
    modules: dict[str, nn.Module]
    optimizers: dict[str, Any]
    owned: dict[str, Named]
    schedulers: dict[str, Scheduler]
    precision: Precision
    steps: int
    ema: Ema | None = None
    notes: list[str] = field(default_factory=list)
    _updated_by: dict[tuple[str, ...], tuple[list[str], list[nn.Parameter] | None]] = field(default_factory=dict)

    @functools.cached_property
    def nets(self) -> Networks:
        """The networks as the task sees them."""
        return self.networks(self.modules)

    def networks(self, modules: Mapping[str, nn.Module]) -> Networks:
        """`modules` (these or their averages) as the task sees them: without the loss, which is no network."""
        return Networks({name: module for name, module in modules.items() if name != "loss"})

    @property
    def train(self) -> dict[str, Any]:
        """The `train.*` settings."""
        return self.config["train"]  # type: ignore[no-any-return]

    def updated_by(self, networks: tuple[str, ...]) -> tuple[list[str], list[nn.Parameter] | None]:
        """Optimizers that step when an objective updates `networks`, and the parameters its gradient goes to (None: all)."""
        if networks not in self._updated_by:
            self._updated_by[networks] = self._find_updated_by(networks)
        return self._updated_by[networks]

    def _find_updated_by(self, networks: tuple[str, ...]) -> tuple[list[str], list[nn.Parameter] | None]:
        chosen = [name for name, named in self.owned.items() if any(full.split(".")[0] in networks for full, _ in named)]
        for name in chosen:
            foreign = {full.split(".")[0] for full, _ in self.owned[name]} - {*networks, "loss"}
            if foreign:
                raise UsageError(
                    f"optimizer {name} owns {', '.join(sorted(foreign))} too, but an objective updates {', '.join(networks)} alone: "
                    f"give each network its own, optimizer.{networks[0]}=... optimizer.{sorted(foreign)[0]}=..."
                )
        if len(chosen) == len(self.owned):
            return chosen, None
        return chosen, [parameter for name in chosen for _, parameter in self.owned[name]]


def slots(node: Mapping[str, Any] | None, single: str) -> dict[str, Mapping[str, Any]]:
    """The parts in a config node: {slot: part}; a node with one part is the slot `single`."""
    if not node:
        return {}
    return {single: node} if isinstance(node.get("name"), str) else dict(node)


def options(part: Mapping[str, Any], *drop: str) -> dict[str, Any]:
    """A part's own options: what stands beside its name."""
    return {key: value for key, value in part.items() if key not in ("name", *drop)}


def make(group: str, part: Mapping[str, Any], available: Mapping[str, Any], *drop: str) -> Any:
    """Build one part. A ValueError of dlrun's own parts is the user's to mend; plugins keep their traceback."""
    name = part["name"]
    try:
        return wire(f"{group} {name}", registry.get(group, name), available, options(part, *drop))
    except (ValueError, TypeError) as error:
        if isinstance(error, TypeError) and "left of `*`" not in str(error):
            raise
        if name in registry.PLUGINS[group] and isinstance(error, ValueError):
            raise
        raise UsageError(f"{group} {name}: {error}") from error


def bound(group: str, part: Mapping[str, Any]) -> Any:
    """A part that is called later (loss, metric, augment, schedule) with its options bound; a class is built now."""
    found = registry.get(group, part["name"])
    if inspect.isclass(found):
        return make(group, part, {})
    return functools.partial(found, **options(part)) if options(part) else found


def build_loss(node: Mapping[str, Any] | None, task: Task, spec: DataSpec) -> Any:
    """The configured loss, or the task's default; several are a dict; None where the task needs none."""
    parts = slots(node, "loss")
    if not parts:
        name = task.default_loss(spec)
        return bound("loss", {"name": name, **defaults(f"loss/{name}")}) if name else None
    built = {slot: bound("loss", part) for slot, part in parts.items()}
    return built["loss"] if list(built) == ["loss"] else built


def build_metrics(node: Mapping[str, Any] | None, task: Task, spec: DataSpec) -> dict[str, Metric]:
    """Configured metrics first (the first one with a direction chooses `best`), then those that always go with the task."""
    parts = {part["name"] if slot == "metric" else slot: part for slot, part in slots(node, "metric").items()}
    for name in task.default_metrics(spec):
        parts.setdefault(name, {"name": name, **defaults(f"metric/{name}")})
    metrics = {}
    for slot, part in parts.items():
        found = registry.get("metric", part["name"])
        metrics[slot] = Metric(slot, bound("metric", part), *(getattr(found, fact, value) for fact, value in METRIC_FACTS.items()))
    return metrics


def build_networks(config: Mapping[str, Any], task: Task, spec: DataSpec, seed: int) -> dict[str, nn.Module]:
    """One module a network of the task, each initialised from a seed of its own so that adding one shifts no other."""
    shapes = {name: NetworkShape(*shape) for name, shape in task.networks(spec).items()}
    parts = slots(config.get("model"), next(iter(shapes)) if len(shapes) == 1 else "model")
    if set(parts) != set(shapes):
        say = " ".join(f"model.{name}=mlp" for name in shapes)
        raise UsageError(f"task {config['task']['name']} has networks {', '.join(shapes)}, the config has {', '.join(parts) or 'none'}: say {say}")
    modules: dict[str, nn.Module] = {}
    for name, shape in shapes.items():
        seed_generators(seed, "init", name)
        supplied = {"in_shape": shape.in_shape, "out_shape": shape.out_shape, "classes": spec.classes, "vocab": spec.vocab}
        module = make("model", parts[name], supplied)
        if not isinstance(module, nn.Module):
            raise UsageError(f"model {parts[name]['name']} returned a {type(module).__name__}, expected a torch.nn.Module")
        modules[name] = module
    return modules


def share_out(parts: Mapping[str, Mapping[str, Any]], named: Named) -> dict[str, Named]:
    """Which optimizer owns which trainable parameter: a partition, or UsageError naming what is owned twice or not at all.

    A single optimizer owns everything; of several, each owns what its `owns` globs match, else the network it is named after.
    """
    if list(parts) == ["optimizer"] and not parts["optimizer"].get("owns"):
        return {"optimizer": named}
    owned: dict[str, Named] = {slot: [] for slot in parts}
    wrong = []
    for full, parameter in named:
        globs = {slot: part.get("owns") or [f"{slot}.*"] for slot, part in parts.items()}
        owners = [slot for slot, patterns in globs.items() if any(fnmatchcase(full, pattern) for pattern in patterns)]
        if len(owners) == 1:
            owned[owners[0]].append((full, parameter))
        else:
            wrong.append(f"parameter {full} is owned by {' and '.join(owners) or 'no optimizer'}: name an optimizer after its network, or set `owns`")
    wrong += [f"optimizer.{slot} owns no parameter" for slot, mine in owned.items() if not mine]
    if wrong:
        raise UsageError(wrong)
    return owned


def build_optimizers(
    config: Mapping[str, Any], modules: Mapping[str, nn.Module], steps: int
) -> tuple[dict[str, Any], dict[str, Named], dict[str, Scheduler]]:
    """Optimizers, what each owns, and their schedules. A network without trainable parameters needs no optimizer."""
    named: Named = []
    seen: set[int] = set()
    for name, module in modules.items():
        for key, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                named.append((f"{name}.{key}", parameter))
    if not named:
        return {}, {}, {}
    parts = slots(config.get("optimizer"), "optimizer")
    owned = share_out(parts, named)
    optimizers = {slot: make("optimizer", part, {"named_parameters": owned[slot], "steps": steps}, "owns") for slot, part in parts.items()}
    plans = slots(config.get("schedule"), "schedule")
    schedulers = {}
    for slot, optimizer in optimizers.items():
        plan = plans.get(slot, plans.get("schedule"))
        if plan is None:
            raise UsageError(f"optimizer.{slot} has no schedule: say schedule.{slot}=constant")
        schedulers[slot] = build_scheduler(plan, optimizer, steps)
    return optimizers, owned, schedulers


def build_scheduler(plan: Mapping[str, Any], optimizer: Any, steps: int) -> Scheduler:
    """A multiplier of the learning rate by step, or a torch scheduler stepped once a step."""
    part = registry.get("schedule", plan["name"])
    if "optimizer" in wiring(part):
        return Scheduler(optimizer, steps, stepped=make("schedule", plan, {"optimizer": optimizer, "steps": steps}))
    return Scheduler(optimizer, steps, multiplier=bound("schedule", plan))


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
    """The dataset, split, described and ready to stream."""
    node = config["dataset"]
    cache = os.environ.get("DLRUN_CACHE") or str(Path.home() / ".cache" / "dlrun")
    splits = make("dataset", node, {"root": cache, "seed": node.get("seed", 0)})
    if not isinstance(splits, Splits):
        raise UsageError(f"dataset {node['name']} returned a {type(splits).__name__}, expected dlrun.Splits(train, val, test)")
    train = config["train"]
    augments: Sequence[Callable[..., Any]] = [bound("augment", part) for part in slots(config.get("augment"), "augment").values()]
    try:
        return prepare(
            splits,
            dataset_seed=node.get("seed", 0),
            seed=seed,
            batch_size=train["batch_size"],
            accumulate=train["accumulate"],
            workers=train["workers"],
            device=device,
            augments=augments,
            name=node["name"],
        )
    except ValueError as error:
        if isinstance(error, DlrunError):
            raise
        raise UsageError(f"dataset {node['name']}: {error}") from error


def build_task(config: Mapping[str, Any], data: Data) -> Task:
    """The task with its loss and metrics."""
    task = make("task", config["task"], {"spec": data.spec}, "slots")
    task.bind(data.spec, build_loss(config.get("loss"), task, data.spec), build_metrics(config.get("metric"), task, data.spec))
    if task.couples_rows and config["train"]["accumulate"] > 1:
        raise UsageError(f"task {config['task']['name']} couples the rows of a batch: train.accumulate must be 1")
    return task  # type: ignore[no-any-return]


def build(config: Config, *, with_optimizers: bool = True, load_start: bool = True) -> Run:
    """Build every part of a run; UsageError or MissingError where one cannot be."""
    tree = config.resolved
    seed, train = int(tree["seed"]), tree["train"]
    device = choose_device(tree["device"])
    data = build_data(tree, seed, device)
    task = build_task(tree, data)
    notes = [*config.notes, *data.notes]
    modules = build_networks(tree, task, data.spec, seed)
    if isinstance(task.criterion, nn.Module) and any(True for _ in task.criterion.parameters()):
        modules["loss"] = task.criterion
    if tree.get("start"):
        notes += begin_from(tree["start"], modules) if load_start else freeze(tree["start"].get("freeze") or [], modules)
    for module in modules.values():
        module.to(device)
    steps = int(train["steps"] if train["steps"] is not None else data.steps_in(train["epochs"]))
    optimizers, owned, schedulers = build_optimizers(tree, modules, steps) if with_optimizers else ({}, {}, {})
    run = Run(tree, config.saved, seed, device, data, task, modules, optimizers, owned, schedulers, Precision(train["precision"], device), steps)
    run.notes = notes
    if train["ema"] is not None and with_optimizers:
        run.ema = Ema(modules, train["ema"])
    run.notes += drop_unfit_metrics(run)
    seed_generators(seed, "start")
    task.start(run.nets)
    return run


def drop_unfit_metrics(run: Run) -> list[str]:
    """Take out metrics that nobody asked for and that cannot read this network's outputs; returns a line for each.

    A task brings its usual metrics along (accuracy for classes); a user's own network and loss may use outputs of another form.
    """
    task, asked = run.task, {*slots(run.config.get("metric"), "metric"), *(part["name"] for part in slots(run.config.get("metric"), "").values())}
    usual = [name for name in task.metrics if name not in asked]
    if not usual or not isinstance(task, LossTask):
        return []
    split = "val" if "val" in run.data.rows else "train"
    batch = run.data.head(split, 2)
    modes = [(part, part.training) for module in run.modules.values() for part in module.modules()]
    try:
        with torch.no_grad():
            for module in run.modules.values():
                module.eval()
            noise = Noise(run.seed, "metrics")
            seed_generators(*noise.key)
            batch = task.prepare(batch, noise)
            logits = task.logits(task.outputs(run.nets, batch))
    except Exception:  # the same forward fails again where it can be reported: in the checks, or in the first step
        return []
    finally:
        for part, training in modes:
            part.training = training
    lines = []
    for name in usual:
        try:
            task.metrics[name](logits, batch["y"], len(batch)).value()
        except (ValueError, RuntimeError, IndexError, KeyError, TypeError, AttributeError) as error:
            lines.append(f"metric {name} is left out, it does not fit these outputs: {str(error).splitlines()[0]}")
            task.metrics = {key: metric for key, metric in task.metrics.items() if key != name}
    return lines
