"""The slot table: which part stands in which place, worked out before anything is composed.

A slot is `model` where the task has one network and `model.generator` where it has several; the task's YAML says which. `metric` and
`augment` take any slot names; `optimizer` and `schedule` take one part, or slots where the task leaves it open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlrun.config.layers import Choice, Layer, Path, defaults_choices, dotted
from dlrun.config.library import Library
from dlrun.config.messages import article, hint, listing, nearest, plural
from dlrun.config.places import SLOT_GROUPS, is_name, part_names, printable
from dlrun.errors import UsageError

SINGLE = ("dataset", "task", "model", "loss")
EMPTY_ALLOWED = ("loss", "metric", "augment")
MAX_SLOTS = 100


class Table:
    """Slot -> chosen part, under the rules of one task."""

    def __init__(self, library: Library, task: str) -> None:
        self.library = library
        self.task = task
        self.choices: dict[Path, Choice] = {("task",): Choice(("task",), task, "")}
        self.notes: list[str] = []
        try:
            self.fixed = library.task_slots(task)
            self.known = True
        except UsageError:
            self.fixed, self.known = {}, False

    def slots(self, group: str) -> list[str]:
        """Names of the slots of `group` that are filled; [] where it holds one part or none."""
        return [slot[1] for slot in self.choices if len(slot) == 2 and slot[0] == group]

    def mode(self, group: str) -> str:
        """one | fixed (named slots of the task) | none | free (one part or any slots) | open (any slots)."""
        if group in self.fixed:
            return "none" if self.fixed[group] is None else "fixed"
        if group in SINGLE:
            return "one"
        return "open" if group == "augment" else "free"

    def refusal(self, slot: Path, name: str | None) -> str | None:
        """Why `slot` cannot hold a part under this task, or None."""
        group, mode = slot[0], self.mode(slot[0])
        fixed = self.fixed.get(group) or ()
        named = name or f"{group.upper()}"
        if mode == "none":
            return f"task {self.task} takes no {group}"
        if mode == "fixed" and len(slot) == 1:
            return f"task {self.task} has {plural(group)} {', '.join(fixed)}: say {group}.{fixed[0]}={printable(named)}"
        if mode == "fixed" and slot[1] not in fixed:
            match = nearest(slot[1], fixed)
            return f"task {self.task} has {plural(group)} {', '.join(fixed)}, not {printable(slot[1])}{hint(match, f'{group}.')}"
        if mode == "one" and len(slot) == 2:
            noun = "network" if group == "model" else group
            has = f"task {self.task} has one {noun}" if group in ("model", "loss") else f"there is one {noun}"
            return f"{has}: say {group}={printable(named)}"
        if len(slot) == 2 and (not is_name(slot[1]) or slot[1] == "name"):
            return f"{printable(slot[1])} cannot name a slot: letters, digits and _, and not `name`"
        if len(slot) == 2 and slot not in self.choices and len(self.choices) > MAX_SLOTS:
            return f"more than {MAX_SLOTS} slots"
        if name is None and (group not in EMPTY_ALLOWED or mode == "fixed"):
            return f"{article(group)} is needed: name one of {listing(part_names(group))}"
        return None

    def put(self, choice: Choice) -> str | None:
        """Fill (or empty) a slot; gives the reason where that cannot be."""
        slot, name, origin = choice
        if name is None and self.mode(slot[0]) == "none":
            return None
        if self.mode(slot[0]) == "open" and len(slot) == 1 and name is not None:
            slot = (slot[0], name)
        reason = self.refusal(slot, name) if self.known or (len(slot) == 1 and slot[0] in ("task", "dataset")) else None
        if reason:
            return reason
        if name is None:
            gone = [other for other in self.choices if other[: len(slot)] == slot]
            if not gone and len(slot) == 2:
                match = nearest(slot[1], self.slots(slot[0]))
                return f"there is no {dotted(slot)} to take away{hint(match, f'{slot[0]}.')}"
            for other in gone:
                del self.choices[other]
            return None
        if len(slot) == 2 and (slot[0],) in self.choices:
            self._split(slot, name)
        elif len(slot) == 1:
            for filled in self.slots(slot[0]):
                del self.choices[slot[0], filled]
        self.choices[slot] = Choice(slot, name, origin)
        return None

    def _split(self, slot: Path, name: str) -> None:
        """One part becomes slots: a schedule goes to the other optimizers as well, any other part makes way."""
        group = slot[0]
        single = self.choices.pop((group,))
        fixed = self.fixed.get("optimizer") or self.slots("optimizer")
        if group == "schedule" and fixed:
            for other in fixed:
                self.choices[group, other] = single._replace(slot=(group, other))
            return
        self.notes.append(f"{dotted(slot)}={printable(name)} takes the place of {group}={single.name}")

    def has_option(self, group: str, key: str) -> bool:
        """Whether the one part of `group` has the option `key`."""
        single = self.choices.get((group,))
        if single is None or single.name is None:
            return False
        try:
            return key in self.library.part(group, single.name).values or (group == "optimizer" and key == "owns")
        except UsageError:
            return True

    def is_choice(self, path: Path, value: Any) -> bool:
        """Whether `a.b=value` names a part for the slot `a.b` (rather than a value for the option b of the part in a)."""
        if len(path) != 2 or not isinstance(value, str) or path[0] not in SLOT_GROUPS or path[1] == "name":
            return False
        group, mode = path[0], self.mode(path[0])
        if mode in ("fixed", "open") or path in self.choices:
            return True
        if self.has_option(group, path[1]):
            return False
        return ((group,) not in self.choices and mode == "free") or value in part_names(group)


def scan(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """Every (path, value) inside the tree of a group that might name a part: at most GROUP.SLOT.name deep."""
    if isinstance(value, dict) and len(path) < 3:
        for key, inner in value.items():
            yield from scan((*path, key), inner)
    elif len(path) <= 2 or path[2:] == ("name",):
        yield path, value


def _layer_choices(table: Table, layer: Layer) -> Iterator[Choice]:
    """The choices of a layer in the order that makes sense: whole groups first, then slots."""
    found = [(p, v, item) for item in layer.items if item.path[0] in SLOT_GROUPS for p, v in scan(item.path, item.value)]
    yield from layer.choices
    for path, value, item in found:
        whole = len(path) == 1 and (value is None or isinstance(value, str))
        if whole or (path[1:] == ("name",) and isinstance(value, str)):
            layer.consumed.add(path)
            yield Choice(path[:1], value, item.origin(path))
        elif len(path) == 3 and isinstance(value, str):
            layer.consumed.add(path)
            yield Choice(path[:2], value, item.origin(path))
    for path, value, item in found:
        if table.is_choice(path, value) or (value is None and len(path) == 2 and path in table.choices):
            layer.consumed.add(path)
            yield Choice(path, value, item.origin(path))


def apply_layer(table: Table, layer: Layer, gone: frozenset[str] = frozenset()) -> list[str]:
    """Put the layer's choices into the table; gives errors, each with its origin.

    A group is chosen whole or by its slots, not both at once (`augment` takes both). Slots of the groups in `gone` were those of another
    task, for which the layer was written.
    """
    errors = []
    seen: dict[Path, Choice] = {}
    parted: dict[str, Choice] = {}  # group -> its first choice by slot
    for choice in _layer_choices(table, layer):
        if choice.slot[0] == "experiment" or (len(choice.slot) == 2 and choice.slot[0] in gone):
            continue
        group, whole = choice.slot[0], len(choice.slot) == 1
        clash = None if group == "augment" else parted.get(group) if whole else seen.get((group,))
        other = seen.get(choice.slot) or clash
        if other is not None and (layer.command_line or other[:2] != choice[:2]):
            errors.append(f"{choice.origin}: given twice, also as {other.origin.removeprefix(layer.name + ': ')}: keep one")
            continue
        seen[choice.slot] = choice
        layer.chosen.add(choice.slot)
        if not whole:
            parted.setdefault(group, choice)
        reason = table.put(choice)
        if reason:
            errors.append(f"{choice.origin}: {reason}")
    return errors


def _slotted(library: Library, task: str) -> frozenset[str]:
    """Groups whose slots `task` names; schedules follow optimizers."""
    try:
        groups = {group for group, slots in library.task_slots(task).items() if slots}
    except UsageError:
        return frozenset()
    return frozenset(groups | ({"schedule"} if "optimizer" in groups else set()))


def build_table(library: Library, root: list[Choice], layers: list[Layer]) -> tuple[Table, list[str]]:
    """The table after `layers`, and the errors of the last of them."""
    task = next((named for layer in reversed(layers) if (named := layer.task())), None)
    task = task or next((c.name for c in root if c.slot == ("task",) and c.name), "")
    table = Table(library, task)
    errors: list[str] = []
    for choice in root:
        if choice.slot != ("task",):
            table.put(choice)
    if table.known:
        where = f"conf/task/{task}.yaml"
        for entry in defaults_choices(library.task_defaults(task), where):
            if isinstance(entry, Choice):
                reason = table.put(entry)
                errors += [f"{entry.origin}: {reason}"] if reason else []
            elif isinstance(entry, UsageError):
                errors += entry.lines
    last: list[str] = []
    own = next((c.name or "" for c in root if c.slot == ("task",)), "")
    for layer in layers:
        own = layer.task() or own
        last = apply_layer(table, layer, frozenset() if own == task else _slotted(library, own))
    return table, [*errors, *last]
