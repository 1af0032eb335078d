"""What one sees before the first step: the batch as it enters the network, the networks, the optimizers, and the fast checks."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from dlrun import registry
from dlrun.batch import Batch
from dlrun.checks import Finding, kind_line, lines_before_training, run_checks
from dlrun.checks._rows import scan
from dlrun.data.items import generators_kept
from dlrun.errors import AnswerNo
from dlrun.inspect import describe_lines
from dlrun.loop import prepare
from dlrun.parts import slots
from dlrun.run import Run
from dlrun.session import Session
from dlrun.sinks.terminal import number
from dlrun.summary import summary_lines


def preflight(session: Session) -> None:
    """Show the set-up and check it; AnswerNo where a check found an error and the config does not say `continue`."""
    run, console = session.run, session.console
    threads = torch.get_num_threads()
    seed = f"seed {run.config['seed']}" + (f" replica {run.train['replica']}" if run.train["replica"] else "")
    console.line(f"{session.directory.path}: {seed}, {run.device}, {threads} thread{'s' * (threads != 1)}, {run.train['precision']}")
    for note in [*run.notes, *filter(None, [kind_line(run)])]:
        console.line(note)
    if session.host.unchecked is not None:
        console.line(f"checks: {session.host.unchecked}")
        return
    batch = prepare(run, 0, 0, run.data.batches(0)[0])
    for line in describe_lines({"train": batch, **evaluated(run, len(batch))}):
        console.line(line)
    for name, module in run.modules.items():
        for line in network_lines(run, name, module, batch):
            console.line(line)
    for line in optimizer_lines(run):
        console.line(line)
    level = run.config["checks"]
    if level == "none":
        console.line("checks: none")
        return
    findings = run_checks(run, level)
    for finding in findings:
        session.found(0, finding, say=False)
    for line, style in lines_before_training(findings, console.width):
        console.line(line, style)
    errors = [finding for finding in findings if finding.level == "error" and stage_of(finding) not in session.host.tried]
    if errors and run.config["checks_on_error"] != "continue":
        raise AnswerNo(f"{errors[0].check}: {errors[0].message}; say checks_on_error=continue to train all the same")


def stage_of(finding: Finding) -> str:
    """The stage of the check that found it."""
    return str(getattr(registry.get("check", finding.check), "stage", "learning"))


def evaluated(run: Run, rows: int) -> dict[str, Batch]:
    """As many rows of each split that is evaluated while training, as the networks get them; drawn, for a split may be sorted."""
    splits = [split for split in run.train["eval_splits"] if split in run.data.rows and split != "train"]
    try:
        with generators_kept():
            return {split: scan(run.data, split, rows, 0.1).batch for split in splits}
    except Exception:  # rows that cannot be read: the checks and the first evaluation say so
        return {}


def network_lines(run: Run, name: str, module: nn.Module, batch: Batch) -> list[str]:
    """The network's summary, with output shapes where it can be copied and takes the batch's x."""
    try:
        return summary_lines(name, copy.deepcopy(module), example(run.task.networks(run.data.spec), name, batch))
    except Exception:  # not copyable, or its forward fails, which the checks report; a forward of the real network is not for looking
        return summary_lines(name, module, None)


def example(shapes: Any, name: str, batch: Batch) -> tuple[Any, ...] | None:
    """Inputs for a network's summary: the batch's x where the network takes it; None where it takes something of the task's own."""
    fits = name in shapes and "x" in batch and tuple(getattr(batch["x"], "shape", (0,))[1:]) == tuple(shapes[name][0])
    return (batch["x"],) if fits else None


def counted(parameters: list[nn.Parameter]) -> str:
    """How many numbers in how many tensors, in words."""
    total, tensors = sum(p.numel() for p in parameters), len(parameters)
    return f"{number(total)} parameter{'s' * (total != 1)} in {tensors} tensor{'s' * (tensors != 1)}"


def schedule_words(run: Run, slot: str) -> str:
    """What an optimizer's schedule multiplies its rate by at the first step, in the middle and at the last; nothing for a constant one."""
    plans, multiplier = slots(run.config["schedule"], "schedule"), run.schedulers[slot].multiplier
    name = plans.get(slot, plans.get("schedule", {})).get("name", "")
    if name == "constant" or multiplier is None or name in registry.PLUGINS["schedule"] or run.steps == 0:
        return f"; schedule {name}" if name != "constant" else ""
    places = sorted({0, run.steps // 2, run.steps - 1})
    return f"; schedule {name}: rate x " + ", ".join(f"{multiplier(step, run.steps):.4g} at step {step + 1}" for step in places)


def optimizer_lines(run: Run) -> list[str]:
    """One line an optimizer: name, groups, learning rate, decay, what it owns, and its schedule."""
    lines = []
    for slot, optimizer in run.optimizers.items():
        node = run.config["optimizer"]
        kind = node["name"] if isinstance(node.get("name"), str) else node[slot]["name"]
        groups = "; ".join(
            f"{counted(group['params'])}, lr {group.get('lr', '?')}"
            + (f", weight decay {group['weight_decay']}" if group.get("weight_decay") else "")
            for group in optimizer.param_groups
        )
        note = getattr(optimizer, "note", "")
        label = kind if slot == "optimizer" else f"{slot}: {kind}"
        lines.append(f"optimizer {label}: {groups}{f' ({note})' if note else ''}{schedule_words(run, slot)}")
    frozen = [f"{name}.{key}" for name, module in run.modules.items() for key, p in module.named_parameters() if not p.requires_grad]
    if frozen:
        lines.append(f"frozen, owned by no optimizer: {', '.join(frozen[:6])}{f' and {len(frozen) - 6} more' if len(frozen) > 6 else ''}")
    return lines
