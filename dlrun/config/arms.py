"""What an experiment lays over its config run by run: arms, values of axes, mutations of claims. All of it is checked when a config is
composed, chosen or not: a study that would fail at its third arm is found out now."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from dlrun.config.kinds import Kind, MisfitError, show_value
from dlrun.config.layers import Item, Layer
from dlrun.config.places import printable
from dlrun.config.sections import COMMAND_LINE_ONLY, Node, Section, Walk, build_sections
from dlrun.config.slots import Table, build_table
from dlrun.config.stacking import Stack, arm_layer, overrides_layer
from dlrun.errors import UsageError

MAX_ARMS, MOST_WORLDS = 100, 100


def overlay_errors(stack: Stack) -> list[str]:
    """What is wrong with the names and values of arms, axes and mutations; nothing of a saved config, whose arm is chosen."""
    if stack.saved is not None:
        return []
    below = [layer for layer in stack.layers if not layer.name.startswith("arm ")][:-1]
    arms = _last(below, "arms")
    given = arms.value if arms and isinstance(arms.value, dict) else {}
    if arms and len(given) > MAX_ARMS:
        return [f"{arms.origin(('arms',))}: more than {MAX_ARMS} arms: what differs in values alone goes into axes"]
    layers = {name: arm_layer(name, overrides, arms) for name, overrides in given.items() if arms}
    errors = [line for name, layer in layers.items() if name != stack.arm for line in _errors(stack, [*below, layer])]
    if errors or stack.arm is not None:
        return errors
    points, mutations = list(_axes(below)), list(_mutations(below))
    return [line for layer in [*points, *mutations] for line in _nowhere(stack, below, list(layers.values()), points, layer)]


def _last(below: Sequence[Layer], key: str) -> Item | None:
    """What holds of a key that is written as a whole."""
    found = [item for layer in below for item in layer.items if item.path == (key,) and isinstance(item.value, (dict, list))]
    return found[-1] if found else None


def _errors(stack: Stack, layers: list[Layer]) -> list[str]:
    """What is wrong with the last of `layers`, on top of the others."""
    layer = layers[-1]
    world, errors = build_table(stack.library, stack.root, layers)
    schema = build_sections(world)
    walk = Walk(schema, world, layer)
    walk.errors += _unknown_parts(world, layer)
    walk.errors += [message for item in walk.leaves() for message in _value(schema, item)]
    return [*layer.errors, *errors, *walk.errors]


def _nowhere(stack: Stack, below: list[Layer], arms: list[Layer], points: list[Layer], layer: Layer) -> list[str]:
    """What is wrong with a layer that lies over arms and axes: an option of a part that only one arm, or point, has is fine there."""
    found = _errors(stack, [*below, layer])
    if not found:
        return []
    others = [point for point in points if point.name != layer.name]
    worlds = itertools.product([[], *([arm] for arm in arms)], [[], *([point] for point in others)])
    fine = any(not _errors(stack, [*below, *arm, *point, layer]) for arm, point in itertools.islice(worlds, MOST_WORLDS))
    return [] if fine else found


def _axes(below: Sequence[Layer]) -> Iterator[Layer]:
    """A layer for every point of each axis by itself; axes of another form are refused in claims/forms.py."""
    axes = _last(below, "axes")
    if axes is None or not isinstance(axes.value, dict):
        return
    for name, keys in axes.value.items():
        rows = list(keys.values()) if isinstance(keys, Mapping) else []
        for values in zip(*rows) if all(isinstance(row, list) for row in rows) else ():
            yield overrides_layer(f"axis {printable(str(name))}", dict(zip(keys, values)), axes, ("axes", name))


def _mutations(below: Sequence[Layer]) -> Iterator[Layer]:
    claims = _last(below, "claims")
    for entry in claims.value if claims and isinstance(claims.value, list) else ():
        mutation = entry.get("mutation") if isinstance(entry, Mapping) else None
        if claims and isinstance(mutation, Mapping):
            yield overrides_layer("a claim's mutation", mutation, claims, ("claims",))


def _unknown_parts(world: Table, layer: Layer) -> Iterator[str]:
    """Parts chosen by `layer` that cannot be had."""
    for slot in layer.chosen & set(world.choices):
        choice = world.choices[slot]
        try:
            world.library.part(slot[0], choice.name or "")
        except UsageError as error:
            yield from (f"{choice.origin}: {line}" if line.startswith("no ") else line for line in error.lines)


def _value(schema: Section, item: Item) -> Iterator[str]:
    """What is wrong with one value."""
    if item.path[0] in ("experiment", "arm", *COMMAND_LINE_ONLY):
        yield f"{item.origin(item.path)}: only the command line sets this"
    node: Node = schema
    for key in item.path:
        node = node.children.get(key) if isinstance(node, Section) else None
    if isinstance(node, Kind) and not (isinstance(item.value, str) and "${" in item.value):
        try:
            node.convert(item.value)
        except MisfitError as misfit:
            yield f"{item.origin(item.path)}: expected {misfit.expected}, found {show_value(misfit.value)}"
