"""The line a run ends with, and how metrics stand in lines: segments of text with their styles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlrun.sinks.terminal import Segment, clean, duration, metric_name, number

WORDS = {"majority": "majority class"}
"""What a baseline is called in the last line, where its name says too little."""
ASIDE = ("lr", "grad_norm", "clipped")
"""Measures of the training itself: not what a bar is looked at for."""


def joined(metrics: Mapping[str, Any], digits: int = 4) -> list[Segment]:
    """Metrics by name, dots between them."""
    segments: list[Segment] = []
    for name, value in metrics.items():
        text = number(value, digits)
        segments += [(" · ", "dim")] if segments else []
        segments += [(metric_name(name) + " ", ""), (text, value_style(text))]
    return segments


def value_style(text: str) -> str:
    """The style of a number."""
    return "error" if text.lstrip("-") in ("nan", "inf") else "accent"


def result_segments(summary: Mapping[str, Any]) -> list[Segment]:
    """The last line of a run, from its summary."""
    metrics, baselines = dict(summary.get("metrics") or {}), summary.get("baselines") or {}
    status = str(summary.get("status", "finished"))
    segments: list[Segment] = []
    if status != "finished":
        reason = f" ({clean(summary['reason'])})" if summary.get("reason") else ""
        segments = [(f"{clean(status)} at step {summary.get('step')}{reason}", "warning"), (" · ", "dim")]
    wanted = str((summary.get("best") or {}).get("metric", "")).partition("/")[2]
    splits = [split for split in ("test", "test_ema", "val", "val_ema") if _chosen(metrics, split)] or ["train"]
    for split in splits:
        if chosen := _chosen(metrics, split, wanted):
            context = _context(split, next(iter(chosen)).partition("/")[2], metrics, baselines) if split == splits[0] else []
            segments += [*joined(chosen), *context, (" · ", "dim")]
    segments.append((_took(summary), ""))
    if summary.get("run_dir"):
        segments += [(" · ", "dim"), (clean(summary["run_dir"]), "bold")]
    return segments


def _chosen(metrics: Mapping[str, Any], split: str, wanted: str = "") -> dict[str, Any]:
    """The `wanted` metric (the one that chose `best`), else the split's first that is no loss, else its loss, in the order measured."""
    if f"{split}/{wanted}" in metrics:
        return {f"{split}/{wanted}": metrics[f"{split}/{wanted}"]}
    mine = {name: value for name, value in metrics.items() if name.startswith(f"{split}/") and name.partition("/")[2] not in ASIDE}
    first = next((name for name in mine if not name.endswith("/loss")), next(iter(mine), None))
    return {} if first is None else {first: mine[first]}


def _context(split: str, metric: str, metrics: Mapping[str, Any], baselines: Mapping[str, Any]) -> list[Segment]:
    """What a metric means only beside: what baselines reach (`<split>/<baseline>_<metric>`), and the recall of the worst class."""
    start = f"{split.removesuffix('_ema')}/"
    known = {name.removeprefix(start): value for name, value in baselines.items() if name.startswith(start)}
    mine = [(name.removesuffix(f"_{metric}"), value) for name, value in known.items() if name.endswith(f"_{metric}")]
    texts = [f"{WORDS.get(name, name)} {number(value)}" for name, value in mine]
    if (worst := metrics.get(f"{split}/worst_recall")) is not None:
        texts.append(f"worst class's recall {number(worst, 3)}")
    return [(f" ({', '.join(texts)})", "dim")] if texts else []


def _took(summary: Mapping[str, Any]) -> str:
    text = f"{summary.get('step', 0)} steps in {duration(summary.get('seconds'))}"
    speed = summary.get("steps_per_second")
    shown = number(float(speed), 3) if speed and speed < 1000 else number(round(speed or 0))
    return f"{text} ({shown} steps/s)" if speed else text
