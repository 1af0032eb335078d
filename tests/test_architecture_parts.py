"""Every part has a YAML with its options and a signature with their types, and they agree; ranges mean what their names say."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, Literal

import part_rules as rules
import pytest
from architecture_rules import ROOT
from part_rules import fits
from torch import nn

from dlrun import ranges, registry
from dlrun.ranges import Count, Decay, Fraction, Index, Positive

CONF = ROOT / "conf"
FILES = list(rules.yaml_files(CONF))
IDS = [f"{group}/{name}" for group, name, _ in FILES]


def test_parts_and_yaml_files_come_in_pairs() -> None:
    """A YAML without code names what cannot be built; code without YAML has no values."""
    code = {(group, name) for group in rules.GROUPS for name in registry.builtin_names(group)}
    assert {(group, name) for group, name, _ in FILES} == code
    assert ("model", "mlp") in code


@pytest.mark.parametrize(("group", "name", "path"), FILES, ids=IDS)
def test_the_yaml_is_the_signature(group: str, name: str, path: Path) -> None:
    values, part = rules.options_of(path), registry.get(group, name)
    found = rules.yaml_is_the_signature(f"{group}/{name}", values, part)
    found += rules.yaml_says_its_name(f"{group}/{name}", name, path.read_text("utf-8"), values)
    found += rules.yaml_explains_its_options(f"{group}/{name}", path.read_text("utf-8"), values)
    found += rules.slots_are_the_codes(f"{group}/{name}", values, part) if group == "task" else []
    assert not found, "\n".join(found)
    assert part.__doc__, f"{group}/{name} has no docstring of its own (shapes, ranges, units)"


def part(in_shape: Any, *, width: Count, p: Fraction = 0.5, **others: Any) -> None:
    """A part that breaks the rules."""


class Module(nn.Module):
    """A part that is a class."""

    def __init__(self, *, betas: tuple[float, float], kind: Literal["a", "b"] | None) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("values", "broken", "finding"),
    [
        ({"width": 3, "depth": 1}, part, "depth stands in the YAML"),
        ({"p": 0.5}, part, "width stands in the signature"),
        ({"width": 0, "p": 0.5}, part, "width: 0 does not fit"),
        ({"width": 2.0, "p": 0.5}, part, "width: 2.0 does not fit"),
        ({"width": 2, "p": True}, part, "p: True does not fit"),
        ({"width": 2, "p": 0.5}, part, "p has the default 0.5"),
        ({"width": 2, "p": 0.5}, part, "takes any keyword"),
        ({"betas": [0.9], "kind": "a"}, Module, "betas: [0.9] does not fit"),
        ({"betas": [0.9, 1], "kind": "c"}, Module, "kind: 'c' does not fit"),
    ],
)
def test_what_differs_is_found(values: dict[str, Any], broken: Any, finding: str) -> None:
    assert any(finding in line for line in rules.yaml_is_the_signature("model/x", values, broken))


def test_a_part_that_keeps_the_rules_has_no_findings() -> None:
    assert rules.yaml_is_the_signature("model/x", {"name": "x", "betas": [0.9, 1], "kind": None}, Module) == []


def test_a_yaml_that_does_not_say_what_it_is_is_found() -> None:
    assert len(rules.yaml_says_its_name("model/x", "x", "name: y", {"name": "y"})) == 2


def test_an_option_without_an_explanation_is_found_by_name() -> None:
    text = "# It.\nname: x\nwidth: 3  # units of a layer\ndepth: 2\nkind: a # kind\nbetas:  # decay of both means\n  - 0.9\n"
    values = {"name": "x", "width": 3, "depth": 2, "kind": "a", "betas": [0.9]}
    found = rules.yaml_explains_its_options("model/x", text, values)
    assert [line.split()[1] for line in found] == ["depth", "kind"]


def test_slots_that_differ_are_found() -> None:
    class task:
        slots: typing.ClassVar = {"model": ("generator", "critic"), "loss": None}

    assert rules.slots_are_the_codes("task/x", {"slots": {"model": ["generator", "critic"], "loss": "none"}}, task) == []
    assert rules.slots_are_the_codes("task/x", {"slots": {"model": ["critic", "generator"], "loss": "none"}}, task)
    assert rules.slots_are_the_codes("task/x", {}, task)


@pytest.mark.parametrize(
    ("value", "hint", "verdict"),
    [
        (1, float, True),
        (True, int, False),
        (1, bool, False),
        ("1", int, False),
        (0, Positive, False),
        (0, Index, True),
        (1.0, Decay, False),
        (None, int | None, True),
        ([1, 2], list[Count], True),
        ([1, 0], list[Count], False),
        ([], tuple[int, ...], True),
        ({"a": 1}, dict[str, int], True),
        ({"a": "b"}, dict[str, int], False),
        ("full", Count | Literal["full"], True),
    ],
)
def test_fitting(value: Any, hint: Any, verdict: bool) -> None:
    assert fits(value, hint) is verdict


def test_the_table_of_ranges_is_the_aliases() -> None:
    """`ranges.NAMED` is what the checker of configs reads; the aliases are what parts write."""
    aliases = {name: alias for name, alias in vars(ranges).items() if typing.get_origin(alias) is typing.Annotated}
    assert {name: typing.get_args(alias) for name, alias in aliases.items()} == ranges.NAMED
