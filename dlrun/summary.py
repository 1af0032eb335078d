"""A network's summary: its layers with output shapes and parameters, in a table short enough to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.sinks import terminal

MOST_LINES = 30
COLUMNS = ("layer", "type", "output", "parameters", "state")
Row = tuple[str, str, str, "int | str", str]


@dataclass
class Node:
    """A module as the table shows it."""

    name: str
    kind: str
    output: str
    own: int
    total: int
    frozen: int
    children: list[Node] = field(default_factory=list)

    def same_as(self, other: Node) -> bool:
        """Whether both look alike but for the name."""
        alike = all(getattr(self, fact) == getattr(other, fact) for fact in ("kind", "output", "own", "total", "frozen"))
        pairs = list(zip(self.children, other.children))
        return alike and len(self.children) == len(other.children) and all(a.name == b.name and a.same_as(b) for a, b in pairs)


def summary_lines(name: str, module: nn.Module, example_inputs: Any) -> list[str]:
    """The summary of `module` as lines of text, at most `MOST_LINES`.

    `example_inputs` is a tuple of positional inputs, or the one input, or None (then no shapes are shown); one forward pass runs on them in
    eval mode, without gradients, and the module's modes are restored. Equal neighbours are folded, and if that is not enough, the deepest
    levels; both are said.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    shapes, problem = _output_shapes(module, inputs) if example_inputs is not None else ({}, "")
    tree = _tree(name, module, shapes, set())
    rows, folded = _rows(tree, MOST_LINES - 4)
    kept = [i for i in range(len(COLUMNS)) if i != 2 or shapes]
    table = terminal.table_lines([COLUMNS[i] for i in kept], [[row[i] for i in kept] for row in rows])
    lines = ["".join(text for text, _ in line) for line in table]
    size = sum(tensor.numel() * tensor.element_size() for tensor in {id(p): p for p in module.parameters()}.values())
    space = f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
    total = f"{terminal.number(tree.total)} parameters ({_state(tree) or 'none'}, {space})"
    notes = [f"  {note}" for note in (folded, problem) if note]
    return [*lines, f"  {terminal.clean(name)} {tree.kind}: {total}", *notes]


def _output_shapes(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[dict[int, str], str]:
    """Shape of what each module puts out, by its id; and what went wrong, if anything did."""
    shapes: dict[int, str] = {}
    modes = {part: part.training for part in module.modules()}

    def note(part: nn.Module) -> Callable[..., None]:
        return lambda *call: shapes.__setitem__(id(part), shape_text(call[-1]))

    hooks = [part.register_forward_hook(note(part)) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad():
            module(*inputs)
        return shapes, ""
    except Exception as error:  # a table without shapes is better than none; the training itself will show the error
        return shapes, f"output shapes are incomplete, the forward pass failed: {terminal.clip(terminal.clean(error), 200)}"
    finally:
        for hook in hooks:
            hook.remove()
        for part, mode in modes.items():
            part.training = mode


def shape_text(output: Any) -> str:
    """`128×10`, `(128×10, 128×2)`, `{x: 5×3}`, or the type's name."""
    if isinstance(output, Tensor):
        return "×".join(map(str, output.shape)) or "scalar"
    if isinstance(output, (tuple, list)):
        return f"({', '.join(shape_text(item) for item in output)})"
    if isinstance(output, Mapping):
        return f"{{{', '.join(f'{terminal.clean(key)}: {shape_text(item)}' for key, item in output.items())}}}"
    return type(output).__name__


def _tree(name: str, module: nn.Module, shapes: Mapping[int, str], seen: set[int]) -> Node:
    """`module` and what is in it; parameters that stand in several places count where they stand first."""
    own = [p for p in module.parameters(recurse=False) if id(p) not in seen and not seen.add(id(p))]  # type: ignore[func-returns-value]
    children = [_tree(key, child, shapes, seen) for key, child in module.named_children()]
    count = sum(p.numel() for p in own)
    frozen = sum(p.numel() for p in own if not p.requires_grad) + sum(child.frozen for child in children)
    total = count + sum(child.total for child in children)
    return Node(name, type(module).__name__, shapes.get(id(module), ""), count, total, frozen, children)


def _state(node: Node) -> str:
    if not node.total or not node.frozen:
        return "trainable" if node.total else ""
    return "frozen" if node.frozen == node.total else f"{terminal.number(node.frozen)} frozen"


def _rows(tree: Node, most: int) -> tuple[list[Row], str]:
    """Rows for the table, at most `most`, and what was folded to make them fit."""
    if not tree.children:
        return [_row(tree, 0, tree.total)], ""
    depth = _depth(tree)
    while True:
        rows, repeats = _level(tree, 0, depth)
        if len(rows) <= most or depth == 1:
            break
        depth -= 1
    notes = [f"{repeats} modules like the one above them are folded"] if repeats else []
    notes += [f"only {depth} of {_depth(tree)} levels are shown"] if depth < _depth(tree) else []
    if len(rows) > most:
        notes.append(f"{len(rows) - most} further rows are left out")
    return rows[:most], "; ".join(notes)


def _depth(node: Node) -> int:
    return 1 + max(_depth(child) for child in node.children) if node.children else 0


def _level(node: Node, indent: int, depth: int) -> tuple[list[Row], int]:
    """Rows of the children of `node`, `depth` levels deep, and how many repeats were folded."""
    rows: list[Row] = []
    folded, i = 0, 0
    if node.own:
        rows.append((f"{'  ' * indent}own parameters", "", "", node.own, ""))
    while i < len(node.children):
        child = node.children[i]
        run = 1
        while i + run < len(node.children) and child.same_as(node.children[i + run]):
            run += 1
        deeper, inside = _level(child, indent + 1, depth - 1) if depth > 1 and child.children else ([], 0)
        rows += [_row(child, indent, "" if deeper else child.total or ""), *deeper]
        if run > 2 or (run == 2 and deeper):
            names = f"{node.children[i + 1].name} … {node.children[i + run - 1].name}" if run > 2 else node.children[i + 1].name
            rows.append((f"{'  ' * indent}{terminal.clean(names)}", f"{run - 1} more {child.kind}", "", (run - 1) * child.total or "", ""))
            folded, i = folded + run - 1, i + run
        else:
            i += 1
        folded += inside
    return rows, folded


def _row(node: Node, indent: int, count: int | str) -> Row:
    return f"{'  ' * indent}{terminal.clean(node.name)}", node.kind, node.output, count, _state(node) if count != "" else ""
