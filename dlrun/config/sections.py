"""The schema of a whole config: sections and options by path, and the walk that finds unknown keys with their nearest match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from dlrun.config.kinds import ANY, Kind, kind_of, kind_of_text
from dlrun.config.layers import Item, Layer, Path, dotted
from dlrun.config.messages import article, hint, listing, nearest, plural
from dlrun.config.places import SLOT_GROUPS, part_names, printable
from dlrun.config.schema import MISSING, is_plain, settings
from dlrun.config.slots import Table
from dlrun.errors import UsageError

MAX_ERRORS = 100
COMMAND_LINE_ONLY = ("run_dir", "output_root")
START_DEFAULTS = {"step": "last", "networks": {}, "freeze": [], "strict": True}


class Section(NamedTuple):
    """A mapping of the config: its keys, those that may be absent, whether null may stand for it, and its name in messages."""

    label: str
    children: dict[str, Node]
    optional: frozenset[str] = frozenset()
    nullable: bool = False


Node = Section | Kind | None
"""A section, an option, or None where nothing is known because a part could not be read."""


def part_section(table: Table, slot: Path) -> Node:
    """The options of the part in `slot`."""
    choice = table.choices[slot]
    group = slot[0]
    try:
        part = table.library.part(group, choice.name or "")
    except UsageError:
        return None
    children: dict[str, Node] = {"name": kind_of_text("str")}
    children.update({name: option.kind for name, option in part.source.options.items()})
    optional = {name for name, option in part.source.options.items() if option.default is not MISSING and not is_plain(option.default)}
    if group == "optimizer":
        children["owns"] = kind_of_text("list[str] | None")
        optional.add("owns")
    if group == "task":
        children["slots"] = ANY
        optional.add("slots")
    return Section(f"{group} {part.name}", children, frozenset(optional))


def group_section(table: Table, group: str) -> Node:
    """The part or the slots of `group`."""
    if (group,) in table.choices:
        return part_section(table, (group,))
    if table.mode(group) == "none":
        return Section(f"task {table.task}, which takes no {group},", {}, nullable=True)
    if not table.known and group not in ("dataset", "task", "metric", "augment"):
        return None
    children = {slot: part_section(table, (group, slot)) for slot in table.slots(group)}
    if table.mode(group) == "fixed":
        return Section(f"task {table.task} with {plural(group)}", children)
    return Section(f"{group}", children, nullable=group == "loss")


def build_sections(table: Table) -> Section:
    """The schema of a config whose slots hold what `table` says."""
    classes = settings().classes
    children: dict[str, Node] = {group: group_section(table, group) for group in SLOT_GROUPS}
    children["train"] = Section("train", {key: kind_of(a) for key, a in classes["Train"].items()})
    wandb = Section("log.wandb", {key: kind_of(a) for key, a in classes["Wandb"].items()})
    log: dict[str, Node] = {key: kind_of(a) for key, a in classes["Log"].items() if key != "wandb"}
    children["log"] = Section("log", {"wandb": wandb, **log})
    start: dict[str, Node] = {key: kind_of(a) for key, a in classes["Start"].items()}
    children["start"] = Section("start", start, nullable=True)
    children.update({key: kind_of(annotation) for key, annotation in classes["Root"].items()})
    expects: dict[str, Node] = dict(settings().expects)
    children["expects"] = Section("expects", expects, frozenset(expects))
    return Section("the config", children)


def option_paths(node: Node, path: Path = ()) -> Iterator[Path]:
    """Every option there is, by path."""
    if isinstance(node, Section):
        for key, child in node.children.items():
            if key not in ("name", "slots"):
                yield from option_paths(child, (*path, key))
    elif node is not None:
        yield path


class Walk:
    """Takes the items of a layer apart into (path, value) of options; `errors` are keys that do not exist."""

    def __init__(self, root: Section, table: Table, layer: Layer) -> None:
        self.root, self.table, self.layer = root, table, layer
        self.errors: list[str] = []

    def leaves(self) -> Iterator[Item]:
        """Every option the layer sets, with the one who set it."""
        for item in self.layer.items:
            if item.path in self.layer.consumed:
                continue
            node: Node = self.root
            for depth, key in enumerate(item.path):
                if not isinstance(node, Section):
                    node = self.deeper(node, item, item.path[:depth])
                    break
                if key not in node.children:
                    self.unknown(item, item.path[: depth + 1], node, item.value)
                    node = None
                    break
                node = node.children[key]
            if node is not None:
                yield from self.inside(node, item.path, item.value, item)

    def deeper(self, node: Node, item: Item, path: Path) -> Node:
        """A path that goes on below an option: fine where that holds a mapping, an error elsewhere."""
        if isinstance(node, Kind) and node.container != "dict" and node is not ANY:
            self.errors.append(f"{item.origin(item.path)}: unknown key; {dotted(path)} is an option ({node.says}) and holds no keys")
            return None
        return node

    def inside(self, node: Node, path: Path, value: Any, item: Item) -> Iterator[Item]:
        """The options in `value`, which stands at `path`."""
        if path in self.layer.consumed or node is None:
            return
        if not isinstance(node, Section) or (value is None and (node.nullable or not node.children)):
            yield Item(path, value, item.origin)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key in node.children:
                    yield from self.inside(node.children[key], (*path, key), inner, item)
                elif (*path, key) not in self.layer.consumed:
                    self.unknown(item, (*path, key), node, inner)
        else:
            self.errors.append(f"{item.origin(path)}: {self.not_a_value(node, path)}")

    def not_a_value(self, node: Section, path: Path) -> str:
        """What to say where a section was given a single value."""
        if path[0] in SLOT_GROUPS:
            return f"expected the name of {article(path[0])}: one of {listing(part_names(path[0]))}"
        example = next(iter(node.children), "key")
        return f"expected a mapping; say {dotted((*path, example))}=..."

    def unknown(self, item: Item, path: Path, node: Section, value: Any) -> None:
        """Note a key that does not exist, with what there is and what was probably meant."""
        if len(self.errors) >= MAX_ERRORS:
            return  # a nearest match takes a millisecond
        reason = self.reason(path, value) or self.unknown_reason(path, node)
        self.errors.append(f"{item.origin(path)}: {reason}")

    def reason(self, path: Path, value: Any) -> str | None:
        """A better reason than `unknown key`, where there is one."""
        key = path[-1]
        if key.startswith("_") and key.endswith("_"):
            return f"refused: a config cannot name code to import or call; choose parts by name ({', '.join(SLOT_GROUPS[:3])} ...)"
        if "." in key:
            return "a key with a dot: nest the mappings instead"
        group = path[0]
        if len(path) != 2 or group not in SLOT_GROUPS:
            return None
        named = isinstance(value, str) and value in part_names(group)
        mode = self.table.mode(group)
        if mode == "none" or (named and mode == "one"):
            return self.table.refusal(path, value if isinstance(value, str) else None)
        if mode == "fixed" and self.is_option(group, key):
            fixed = self.table.fixed[group] or ()
            return f"task {self.table.task} has {plural(group)} {', '.join(fixed)}: say {group}.{fixed[0]}.{printable(key)}=..."
        return None

    def is_option(self, group: str, key: str) -> bool:
        """Whether a part in one of the group's slots has this option."""
        section = self.root.children[group]
        return isinstance(section, Section) and any(isinstance(s, Section) and key in s.children for s in section.children.values())

    def unknown_reason(self, path: Path, node: Section) -> str:
        """`unknown key`, what the section has, and the nearest match: beside it, by its last name anywhere, or by its whole path."""
        key, before = path[-1], "".join(f"{part}." for part in path[:-1])
        known = [name for name in node.children if name != "name" and name != "slots"]
        match = nearest(key, known)
        if match is None:
            paths = {".".join(p): p[-1] for p in option_paths(self.root)}
            same = next((whole for whole, last in paths.items() if last == key), None)
            whole = same or nearest(".".join(path), paths)
            guess = hint(whole)
        else:
            guess = hint(before + match)
        return f"unknown key; {node.label} has {listing(known) or 'no keys'}{guess}"
