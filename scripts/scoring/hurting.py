"""Whether a fault hurts: it and its healthy twin are trained by dlrun's own loop over three seeds and measured on held-out rows.

A fault counts if every seed of it crashes, or if its worst-case advantage is none: every seed is worse than every seed of the twin, and
the means lie apart by more than twice the twin's spread and by 3 % of the way that the twin came from its start. A fault that flatters
(leakage) is shown by the gap between the metric that the run reports on val and the one on honest rows, which has to be larger than the
twin's in the same way. Results are kept in results.json under a hash of all that they depend on.
"""

from __future__ import annotations

import json
import math
import statistics
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from corpus import Setup

RESULTS = Path(__file__).parent / "results.json"
SEEDS = (0, 1, 2)
QUIET = ("log.wandb.mode=disabled", "checks=none", "device=cpu", "train.threads=1")


@dataclass
class Trained:
    """A set-up trained with some seeds. Each number stands once a seed; `crashes` says what stopped a seed, empty if nothing did."""

    key: str
    start: list[float] = field(default_factory=list)
    honest: list[float] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)


def build(setup: Setup, seed: int, *more: str) -> Any:
    """The set-up as `dlrun check` builds it."""
    from dlrun.config import compose
    from dlrun.plugins import load_plugins
    from dlrun.train import build_run

    load_plugins([str(setup.plugin)])
    return build_run(compose([*QUIET, *setup.words, f"seed={seed}", *more]))


class _Quiet:
    """What the loop needs around it: nothing is logged, saved or evaluated, only non-finite losses stop it."""

    def __init__(self, device: Any) -> None:
        from dlrun.finite import Watch
        from dlrun.steplog import StepLog

        self.watch, self.log = Watch(device), StepLog()

    def wants_row(self, step: int) -> bool:
        return False

    def after_step(self, step: int) -> bool:
        return True


def _value(run: Any, metrics: dict[str, float], name: str) -> float:
    if name not in metrics:
        raise KeyError(f"{run.config['task']['name']} has no metric {name}; there are {', '.join(metrics)}")
    return metrics[name]


def once(setup: Setup, twin: Setup, seed: int) -> tuple[float, float, float, str]:
    """(metric before training, on honest rows after it, reported on val after it, what stopped it) for one seed."""
    from dlrun.evaluate import evaluate
    from dlrun.finite import broken_parameter
    from dlrun.loop import fit

    try:
        run, judge = build(setup, seed), build(twin, seed)
        rows = judge if setup.shown.startswith("twin") else replace(judge, data=run.data)
        name = setup.judge[0]
        start = _value(run, evaluate(rows, run.modules, "test", 0), name)
        fit(run, _Quiet(run.device), 0)
        if broken := broken_parameter(run.modules):
            return start, math.nan, math.nan, f"{broken} is not finite"
        honest = _value(run, evaluate(rows, run.modules, "test", run.steps), name)
        reported = evaluate(run, run.modules, "val", run.steps).get(name, math.nan)
        return start, honest, reported, "" if math.isfinite(honest) else f"{name} is {honest}"
    except Exception as error:  # whatever the set-up raises is what there is to see
        return math.nan, math.nan, math.nan, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def train(setup: Setup, twin: Setup) -> Trained:
    """`setup` over the three seeds, judged by `twin` (itself, if it is healthy)."""
    import torch

    torch.set_num_threads(1)
    done = Trained(key(setup, twin))
    for seed in SEEDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start, honest, reported, crash = once(setup, twin, seed)
        done.start.append(start), done.honest.append(honest), done.reported.append(reported), done.crashes.append(crash)
    return done


def key(setup: Setup, twin: Setup) -> str:
    """What the result depends on."""
    return setup.key if setup is twin else f"{setup.key} {twin.key}"


def learns(healthy: Trained, direction: str) -> bool:
    """Whether a healthy set-up came away from its start, every seed by more than the seeds differ."""
    if any(healthy.crashes):
        return False
    gains = [_sign(direction) * (end - start) for start, end in zip(healthy.start, healthy.honest, strict=True)]
    return min(gains) > 0 and statistics.mean(gains) > statistics.pstdev(healthy.honest)


def _sign(direction: str) -> int:
    return 1 if direction == "max" else -1


def hurts(setup: Setup, faulty: Trained, healthy: Trained) -> tuple[bool, str]:
    """(whether the fault counts, the numbers that say so)."""
    if any(faulty.crashes):
        return all(faulty.crashes), "; ".join(sorted({crash for crash in faulty.crashes if crash}))[:120]
    name, sign = setup.judge[0], _sign(setup.judge[1])
    if setup.shown.endswith("gap"):
        bad = [sign * (said - true) for said, true in zip(faulty.reported, faulty.honest, strict=True)]
        good = [sign * (said - true) for said, true in zip(healthy.reported, healthy.honest, strict=True)]
        words = f"{name} said {_mean(faulty.reported)} on val, honest {_mean(faulty.honest)}"
        words += f"; twin {_mean(healthy.reported)}, {_mean(healthy.honest)}"
    else:
        bad, good = [-sign * value for value in faulty.honest], [-sign * value for value in healthy.honest]
        words = f"{name} {_mean(faulty.honest)}, twin {_mean(healthy.honest)}, before training {_mean(healthy.start)}"
    way = abs(statistics.mean(healthy.honest) - statistics.mean(healthy.start))
    apart = statistics.mean(bad) - statistics.mean(good)
    return min(bad) > max(good) and apart > max(2 * statistics.pstdev(good), 0.03 * way), words


def _mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.3g}"


def read(path: Path = RESULTS) -> dict[str, Trained]:
    """Results on record by name of the set-up."""
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return {name: Trained(**_numbers(node)) for name, node in kept.items()}


def _numbers(node: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [math.nan if item is None else item for item in value] if isinstance(value, list) else value for name, value in node.items()
    }


def write(results: dict[str, Trained], path: Path = RESULTS) -> None:
    """Keep results, one line a set-up, numbers to six digits, NaN as null."""
    lines = []
    for name in sorted(results):
        node = {field: _plain(value) for field, value in vars(results[name]).items()}
        lines.append(f"{json.dumps(name)}: {json.dumps(node)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return (float(f"{value:.6g}") if math.isfinite(value) else None) if isinstance(value, float) else value
