"""Promise S2 on optimizer states: what a step would not leave is refused before a kernel that walks memory by address sees it."""

from __future__ import annotations

import copy
import random
from typing import Any

import hostile
import pytest
import torch
from torch import Tensor

from dlrun.config import defaults
from dlrun.functional.likeness import misfit
from dlrun.registry import get

NAMES = ["sgd", "adam", "adamw", "adagrad", "rmsprop", "lion", "sign_sgd", "muon", "sam"]


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 3))


def optimizer(name: str, module: torch.nn.Module) -> Any:
    options = {**defaults(f"optimizer/{name}"), "lr": 0.01}
    options |= {"momentum": 0.9} if name in ("sgd", "rmsprop") else {}
    more = {"hidden": {"0.weight"}} if name == "muon" else {}
    return get("optimizer", name)(list(module.named_parameters()), **more, **options)


def stepped(name: str) -> tuple[torch.nn.Module, Any]:
    module = network()
    found = optimizer(name, module)
    for _ in range(2 * getattr(found, "passes", 1)):
        found.zero_grad()
        module(torch.randn(8, 5, generator=torch.Generator().manual_seed(1))).square().sum().backward()
        found.step()
    return module, found


def spoiled(value: Any, rng: random.Random) -> Any:
    """Something else than `value`, a tensor most of the time."""
    if not isinstance(value, Tensor) or rng.random() < 0.3:
        return rng.choice(hostile.ODD)
    return rng.choice(
        [
            value.reshape(-1)[:1].clone(),
            torch.zeros(0),
            torch.zeros(3, 3, 3),
            value.long(),
            value.to(torch.complex64),
            value[None],
            value.bool(),
        ]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_its_own_is_taken_bit_for_bit(name: str) -> None:
    _, before = stepped(name)
    state = copy.deepcopy(before.state_dict())
    after = optimizer(name, network())
    after.load_state_dict(state)
    for key, entry in after.state_dict()["state"].items():
        assert all(torch.equal(value, state["state"][key][name]) for name, value in entry.items() if isinstance(value, Tensor))
    fresh = optimizer(name, network())
    fresh.load_state_dict(optimizer(name, network()).state_dict())  # that of no step at all


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_no_step_leaves_is_refused(name: str) -> None:
    rng = random.Random(11)
    _, found = stepped(name)
    state = found.state_dict()
    refused = 0
    for _ in range(150):
        odd = copy.deepcopy(state)
        if state["state"] and rng.random() < 0.6:
            entry = odd["state"][rng.choice(list(odd["state"]))]
            key = rng.choice(list(entry))
        else:
            entry = odd["param_groups"][rng.randrange(len(odd["param_groups"]))]
            key = rng.choice(list(entry))
        if rng.random() < 0.2:
            del entry[key]
        else:
            entry[key] = spoiled(entry[key], rng)
        module = network()
        other = optimizer(name, module)
        try:
            other.load_state_dict(odd)
        except (ValueError, KeyError, TypeError, AttributeError):
            refused += 1
            continue
        for _ in range(getattr(other, "passes", 1)):
            module(torch.ones(4, 5)).square().sum().backward()
            other.step()  # whatever was taken can be stepped with
    assert refused > 60


def test_likeness() -> None:
    like = {"a": 1, "b": [0.5, "x"], "c": None, "d": True}
    assert misfit(like, {"a": 2, "b": (1, "y"), "c": False, "d": False, "more": 3}) == ""
    cases = [
        ({**like, "a": True}, "a: expected an integer, found a bool"),
        ({**like, "a": 1.0}, "a: expected an integer, found a float"),
        ({**like, "b": [0.5]}, "b: expected a list of 2, found a list of 1"),
        ({**like, "b": [None, "x"]}, "b[0]: expected a number, found null"),
        ({**like, "c": 3}, "c: expected null, found a int"),
        ({"a": 1}, "b is missing"),
        ([], "expected a mapping, found a list of 0"),
    ]
    assert [misfit(like, found) for found, _ in cases] == [said for _, said in cases]
