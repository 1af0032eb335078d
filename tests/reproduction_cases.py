"""Experiments of every kind, with evidence made by hand: what figures of reproductions are tested on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from reproductions import evidence, noise, sheet

from dlrun.claims.evidence import SeedEvidence
from dlrun.reproduce.sheet import Sheet

ACCURACIES = ["train/accuracy", "test/accuracy"]
STEPS = list(range(0, 1001, 50))
EVENTS = {"memorised": "train/accuracy >= 0.99", "generalised": "test/accuracy >= 0.99"}
Case = tuple[Sheet, list[SeedEvidence]]


def rise(start: float, width: float) -> list[float]:
    return [1 / (1 + math.exp(-(step - start) / width)) for step in STEPS]


def grokking(seeds: int = 5, **more: Any) -> Case:
    claims = ["decay.generalised.step / decay.memorised.step >= 2", 'no_decay["test/accuracy"].final < 0.05']
    mine = sheet("grokking", {"decay": {}, "no_decay": {"optimizer.weight_decay": 0}}, seeds, claims=claims, events=EVENTS, **more)

    def curve(arm: str, point: Any, seed: int, metric: str) -> list[float]:
        return rise(100 + 10 * seed, 10) if metric == "train/accuracy" else rise(600, 40) if arm == "decay" else [0.01 + 0.001 * seed] * 21

    def events(arm: str, seed: int) -> dict[str, int]:
        return {"memorised": 150 + 50 * seed, **({"generalised": 800} if arm == "decay" and seed != 1 else {})}

    return mine, evidence(mine, ACCURACIES, STEPS, curve, events=events)


WIDTHS, RATES = [32, 64, 128], [0.001, 0.01, 0.1]


def transfer() -> Case:
    """The best rate of `plain` falls with width: the lowest loss is 1 / width at 0.1, 0.01, 0.001."""
    arms = {"plain": {}, "spectral": {}, "third": {}}
    axes = {"width": {"model.width": WIDTHS}, "lr": {"optimizer.lr": RATES}}
    claim = 'slope(log(argmin({}["train/loss"].final, lr)), log(width)) <= -0.5'
    mine = sheet("transfer", arms, 3, axes=axes, claims=[claim.format(arm) for arm in arms])

    def curve(arm: str, point: dict[str, Any], seed: int, metric: str) -> list[float]:
        best = 2 - WIDTHS.index(point["width"]) if arm == "plain" else 1
        if arm == "third" and point == {"width": 128, "lr": 0.1} and seed == 2:
            return [9.0, math.nan]
        return [9.0, 1 + abs(RATES.index(point["lr"]) - best) + 0.1 * seed]

    return mine, evidence(mine, ["train/loss"], [0, 100], curve)


def measured() -> Case:
    measures = {name: {"probe": "interpolation", "runs": ["a", "b"]} for name in ("far", "near")}
    mine = sheet("measured", {"a": {}, "b": {}}, claims=["far.barrier >= 0.02", "near.midpoint >= far.midpoint"], measures=measures)

    def numbers(name: str, point: Any, seed: int) -> dict[str, float]:
        return {"barrier": (0.06 if name == "far" else 0.001) + 0.001 * seed, "midpoint": 0.8 + 0.01 * seed}

    return mine, evidence(mine, [], [], lambda *_: None, measures=numbers)


def numbered() -> Case:
    """`far` gives values at 0, 0.5 and 1, `near` at 0 and 1, `other` none."""
    measures = {name: {"probe": "interpolation", "runs": ["a", "b"]} for name in ("far", "near", "other")}
    claims = ["far.barrier >= 0.02"]
    mine = sheet(
        "numbered", {"a": {}, "b": {}}, claims=claims, measures=measures, figure={"y": ["far.accuracy_at_*", "val/loss"], "from": 20}
    )

    def numbers(name: str, point: Any, seed: int) -> dict[str, float]:
        far = {"accuracy_at_0": 0.9, "accuracy_at_0.5": 0.4 + 0.01 * seed, "accuracy_at_1": 0.8, "accuracy_at_best": 0.0}
        near = {"accuracy_at_0": 0.9, "accuracy_at_1": 0.7}
        return {"far": far, "near": near, "other": {}}[name] | {"barrier": 0.1}

    return mine, evidence(mine, ["val/loss"], [0, 10, 20, 30], lambda arm, *_: [9.0, 8.0, 2.0, 1.0], measures=numbers)


def diverged() -> Case:
    mine = sheet(
        "diverged", {"cold": {}, "lava": {}}, claims=['cold["train/loss"].final <= lava["train/loss"].final', "lava.diverged >= 1"]
    )

    def curve(arm: str, point: Any, seed: int, metric: str) -> list[float]:
        values = [2.0 + seed] * 21
        return values if arm == "cold" or seed == 0 else [*(10.0 ** (5 * i) for i in range(6)), *[math.nan] * 15]

    return mine, evidence(mine, ["train/loss"], STEPS, curve)


NAMES = [f"arm_number_{i}" for i in range(12)]


def many(length: int) -> Case:
    claims = [f'{NAMES[0]}["test/accuracy"].final > {NAMES[11]}["test/accuracy"].final', f"{NAMES[0]}.half.step <= {NAMES[11]}.half.step"]
    mine = sheet(
        "many", {name: {} for name in NAMES}, 3, claims=claims, events={"half": "test/accuracy >= 0.5", "late": "test/accuracy > 0.9"}
    )
    steps = list(range(0, 10 * length, 10))

    def curve(arm: str, point: Any, seed: int, metric: str) -> list[float]:
        late = 20 + 30 * NAMES.index(arm)
        return list(1 - np.exp(-np.array(steps) / late) - 0.01 * noise(arm, seed).random(length))

    return mine, evidence(
        mine, ["test/accuracy"], steps, curve, events=lambda arm, seed: {"half": 14 + 20 * NAMES.index(arm), "late": 50 * (1 + seed)}
    )


def empty() -> Case:
    mine = sheet("empty", {"a": {}, "b": {}}, claims=['a["test/accuracy"].final > b["test/accuracy"].final'])
    return mine, evidence(mine, ["test/accuracy"], STEPS, lambda *_: None)


EVIL = "<script>alert(1)</script>$\\frac{"


def hostile() -> Case:
    arms = {"a": {}, "_a$b$": {"x": EVIL}, EVIL: {}}
    mine = sheet(
        EVIL, arms, 2, source=EVIL * 9, figure={"y": [f"test/{EVIL}"]}, events={"e$": f"test/{EVIL} >= 0.5"}, claims=["a.steps > 9" * 1]
    )
    return mine, evidence(mine, [f"test/{EVIL}"], STEPS, lambda *_: rise(500, 90), events=lambda *_: {"e$": 500})


def shaded() -> Case:
    claim = 'mean(a["val/loss"].final, width) <= mean(b["val/loss"].final, width)'
    mine = sheet("shaded", {"a": {}, "b": {}}, 2, axes={"width": {"model.width": WIDTHS}}, figure={"x": "step"}, claims=[claim])
    return mine, evidence(mine, ["val/loss"], STEPS, lambda arm, point, seed, _: [point["width"] / 100 + len(arm) + seed] * 21)


CASES: dict[str, Any] = {
    "grokking": grokking,
    "log": lambda: grokking(figure={"y": ACCURACIES, "x": "step", "log": ["x"]}),
    "one seed": lambda: grokking(1),
    "transfer": transfer,
    "measured": measured,
    "numbered": numbered,
    "diverged": diverged,
    "many": lambda: many(60),
    "many rows": lambda: many(2),
    "long": lambda: many(2000),
    "empty": empty,
    "hostile": hostile,
    "shaded": shaded,
}
