"""From overrides and YAML to one validated config.

Order: parse the overrides, work out the slot table, check every name against the schema of the part in its slot, let Hydra compose the
parts, lay the values of experiment, arm and command line over them, resolve interpolations, validate. Errors are collected all the way.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlrun.config.arms import overlay_errors
from dlrun.config.layers import Item, Layer, Path, dotted
from dlrun.config.library import Library, Part
from dlrun.config.messages import listing
from dlrun.config.places import SLOT_GROUPS
from dlrun.config.reach import Reach
from dlrun.config.sections import COMMAND_LINE_ONLY, MAX_ERRORS, START_DEFAULTS, Section, Walk, build_sections, option_paths
from dlrun.config.slots import Table, build_table
from dlrun.config.stacking import Stack, build_stack
from dlrun.config.validate import Validator, finish
from dlrun.errors import UsageError
from dlrun.redact import note_environment, redact_tree

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Config:
    """A validated config: `resolved` for building, `saved` for config.yaml (environment unresolved), `notes` to print, `paths` it reads."""

    resolved: dict[str, Any]
    saved: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)


@dataclass
class Draft:
    """A config in the making: the final slot table, its schema, and which values of which layer hold."""

    stack: Stack
    table: Table
    schema: Section
    errors: list[str]
    notes: list[str] = field(default_factory=list)
    kept: list[tuple[Layer, Item]] = field(default_factory=list)
    origins: dict[Path, str] = field(default_factory=dict)
    typed: set[Path] = field(default_factory=set)
    parts: dict[Path, Part] = field(default_factory=dict)


Nodes = dict[Path, dict[str, Any]]


def compose(
    overrides: Sequence[str] = (),
    *,
    config_dir: AnyPath | None = None,
    from_file: AnyPath | None = None,
    memory: dict[Any, Nodes] | None = None,
) -> Config:
    """The config that `overrides` ask for, on top of the defaults or of the saved config `from_file`.

    `config_dir` is looked at before dlrun's own conf. A `memory` shared by many calls keeps what Hydra made of the same parts: 50 ms become
    3, and files that change in between are not read again. Raises UsageError with every error there is, one line each.
    """
    note_environment(os.environ)
    library = Library(config_dir)
    stack = build_stack(library, list(overrides), None if from_file is None else os.fspath(from_file))
    table, _ = build_table(library, stack.root, stack.layers)
    draft = Draft(stack, table, build_sections(table), list(stack.errors))
    for number, layer in enumerate(stack.layers):
        _check_layer(draft, layer, stack.layers[: number + 1])
    draft.errors += overlay_errors(draft.stack)
    _note_absent(draft)
    _read_parts(draft)
    tree = _assemble(draft, _nodes(draft, {} if memory is None else memory))
    reach = Reach(None if config_dir is None else os.fspath(config_dir), None if from_file is None else os.fspath(from_file))
    validator = Validator(tree, draft.origins, draft.parts, library, reach, draft.typed)
    resolved, saved = finish(validator, draft.schema, draft.table, draft.errors)
    if draft.errors:
        lines = list(dict.fromkeys(draft.errors))
        more = [f"and {len(lines) - MAX_ERRORS} more errors"] if len(lines) > MAX_ERRORS else []
        raise UsageError(lines[:MAX_ERRORS] + more)
    return Config(resolved, redact_tree(saved), [*draft.notes, *table.notes, *dict.fromkeys(library.notes)], reach.used)


def _check_layer(draft: Draft, layer: Layer, below: list[Layer]) -> None:
    """Check a layer's names against the parts it was written for; keep what the final parts still take, and say what goes."""
    world, errors = build_table(draft.stack.library, draft.stack.root, below)
    schema = draft.schema if world.choices == draft.table.choices else build_sections(world)
    walk = Walk(schema, world, layer)
    seen: dict[Path, Item] = {}
    dropped: dict[Path, list[str]] = {}
    for item in walk.leaves():
        slot = slot_of(world, item.path)
        if slot is not None and _name(world, slot) != _name(draft.table, slot):
            if item.path != ("task", "slots"):
                dropped.setdefault(slot, []).append(dotted(item.path))
            continue
        if layer.command_line:
            _refuse_twice(seen, item, errors)
        draft.kept.append((layer, item))
    draft.errors += [*errors, *walk.errors]
    draft.notes += _drop_notes(draft, layer, world, dropped)


def _drop_notes(draft: Draft, layer: Layer, world: Table, dropped: dict[Path, list[str]]) -> Iterator[str]:
    """What a swap discarded: values of the old part, and parts for slots that the new task does not have."""
    for slot, names in dropped.items():
        now = draft.table.choices.get(slot)
        why = f"there is no {dotted(slot)} now"
        if now is not None:
            why = f"its place is taken by {now.origin or f'{dotted(slot)}={now.name}'}"
        yield f"dropped from {layer.name}: {', '.join(names)}, written for {slot[0]} {_name(world, slot)} ({why})"
    if world.task == draft.table.task:
        return
    for slot, choice in world.choices.items():
        if slot not in draft.table.choices and slot not in dropped and slot in layer.chosen:
            yield f"dropped from {layer.name}: {dotted(slot)}={choice.name} (the task is {draft.table.task} now)"


def slot_of(table: Table, path: Path) -> Path | None:
    """The slot in which `path` lies."""
    if path[0] not in SLOT_GROUPS:
        return None
    return next((slot for slot in (path[:1], path[:2]) if slot in table.choices), None)


def _name(table: Table, slot: Path) -> str | None:
    choice = table.choices.get(slot)
    return choice.name if choice else None


def _refuse_twice(seen: dict[Path, Item], item: Item, errors: list[str]) -> None:
    for path, other in seen.items():
        shorter = min(len(path), len(item.path))
        if path[:shorter] == item.path[:shorter]:
            errors.append(f"{item.origin(item.path)}: given twice, also as {other.origin(path).removeprefix('command line: ')}: keep one")
            return
    seen[item.path] = item


def _note_absent(draft: Draft) -> None:
    """Say which keys a saved config (of an older dlrun) lacks: they take today's defaults."""
    saved = draft.stack.saved
    if saved is None:
        return
    there = {item.path[:end] for layer, item in draft.kept if layer is saved for end in range(1, len(item.path) + 1)} | saved.consumed
    there |= {path[:end] for path in saved.consumed for end in range(1, len(path))}
    there |= {item.path for item in saved.items if not isinstance(item.value, dict)}
    optional = ("expects", "start", "experiment", "arm", *COMMAND_LINE_ONLY)
    absent = [path for path in option_paths(draft.schema) if path not in there and path[0] not in optional and path[-1] != "owns"]
    gone = [dotted(path) for path in absent if slot_of(draft.table, path) is None or _same_part(draft, saved, path)]
    if gone:
        draft.notes.append(f"{saved.name} says nothing of {listing(gone)}: today's defaults")


def _same_part(draft: Draft, saved: Layer, path: Path) -> bool:
    """Whether the part in which `path` lies is the one that the saved config chose."""
    slot = slot_of(draft.table, path)
    return slot is not None and draft.table.choices[slot].origin.startswith(saved.name)


def _read_parts(draft: Draft) -> None:
    for slot, choice in draft.table.choices.items():
        try:
            draft.parts[slot] = draft.stack.library.part(slot[0], choice.name or "")
        except UsageError as error:
            draft.errors += [f"{choice.origin}: {line}" if choice.origin and line.startswith("no ") else line for line in error.lines]


def _nodes(draft: Draft, memory: dict[Any, Nodes]) -> Nodes:
    """The composed node of every slot. Hydra composes; only where there are errors to tell anyway its 80 ms are saved."""
    if draft.errors and not any(part.bases for part in draft.parts.values()):
        return {slot: copy.deepcopy(part.values) for slot, part in draft.parts.items()}
    from dlrun.config.hydra_nodes import compose_nodes

    same = tuple((slot, part.name) for slot, part in draft.parts.items())
    try:
        if same not in memory:
            memory[same] = compose_nodes(draft.stack.library, draft.parts)
        return copy.deepcopy(memory[same])
    except UsageError as error:
        draft.errors += error.lines
        return {}


def _assemble(draft: Draft, nodes: Nodes) -> dict[str, Any]:
    """The tree: root values, parts, then the values of each layer in turn."""
    tree = copy.deepcopy(draft.stack.library.root().values)
    tree.update(experiment=draft.stack.experiment, arm=draft.stack.arm)
    for group in SLOT_GROUPS:
        tree[group] = None if group == "loss" else {}
    draft.origins.update({(*slot, "name"): choice.origin for slot, choice in draft.table.choices.items() if choice.origin})
    for slot, node in nodes.items():
        if len(slot) == 1:
            tree[slot[0]] = node
        else:
            tree[slot[0]] = {**(tree[slot[0]] or {}), slot[1]: node}
    for layer, item in draft.kept:
        if item.path[0] in SLOT_GROUPS and slot_of(draft.table, item.path) is None:
            continue
        if item.path[:2] == ("task", "slots"):
            _fixed_slots(draft, tree, item)
            continue
        _one_length(draft, tree, layer, item)
        _put(tree, item)
        draft.origins[item.path] = item.origin(item.path)
        (draft.typed.add if layer.command_line else draft.typed.discard)(item.path)
    if isinstance(tree.get("start"), dict):
        given = tree["start"]
        tree["start"] = {key: given[key] for key in ("from",) if key in given} | copy.deepcopy(START_DEFAULTS) | given
    return tree


def _fixed_slots(draft: Draft, tree: dict[str, Any], item: Item) -> None:
    """A task's slots are a fact of its code: a saved config may repeat them, nothing may change them."""
    if item.path != ("task", "slots") or item.value != tree.get("task", {}).get("slots"):
        draft.errors.append(f"{item.origin(item.path)}: the slots of task {draft.table.task} are what its own YAML says")


def _put(tree: dict[str, Any], item: Item) -> None:
    node = tree
    for key in item.path[:-1]:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    node[item.path[-1]] = copy.deepcopy(item.value)


def _one_length(draft: Draft, tree: dict[str, Any], layer: Layer, item: Item) -> None:
    """`train.epochs` takes the place of a `train.steps` from further down, and the other way round."""
    lengths: dict[Path, str] = {("train", "epochs"): "steps", ("train", "steps"): "epochs"}
    other = lengths.get(item.path)
    if other is None or item.value is None or tree["train"].get(other) is None:
        return
    if any(kept.path == ("train", other) and kept.value is not None for below, kept in draft.kept if below is layer):
        return
    draft.notes.append(f"{layer.name}: train.{item.path[1]}={item.value} takes the place of train.{other}={tree['train'][other]}")
    tree["train"][other] = None
