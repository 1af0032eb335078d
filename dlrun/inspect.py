"""`inspect_data`: what a piece of data is, at a glance: type, shape, dtype, device, range, mean, variance, share of NaN.

Statistics are of the values that are no NaN, in double precision; the variance is that of the population (divided by n, so that of a single
value is 0). They are None where there is nothing to measure: empty tensors, texts, complex numbers (no order), meta tensors.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrun.sinks import terminal

COLUMNS = ("name", "type", "shape", "dtype", "device", "grad", "min", "max", "mean", "var", "nan")
MOST_ITEMS = 200
"""Items of a container that are looked at one by one; the rest is counted."""
FEW_NUMBERS = 8
"""A longer list of plain numbers is looked at as one array."""
MOST_DEPTH = 8
CHUNK = 1 << 22
"""Values converted to double precision at a time: a dataset of 10^8 bytes must not take 10^9 to look at."""

HAVE_RANGE = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
HAVE_RANGE |= {torch.float16, torch.bfloat16, torch.float32, torch.float64}
"""Types whose smallest and largest value torch can tell; the others (uint16, 8-bit floats ...) are converted."""

Facts = dict[str, Any]


def inspect_data(x: Any, name: str = "") -> dict[Any, Any]:
    """Print what `x` is and return it as plain values.

    A tensor, array, image or number gives a dict with type, shape, dtype, device, requires_grad, min, max, mean, var, nan_share; a dict,
    tuple, list or Batch gives a dict of such dicts under its keys or positions.
    """
    facts = _nested(x, 0)
    terminal_here = terminal.is_terminal(sys.stdout)
    colour = terminal.wants_colour(terminal_here)
    lines = terminal.table_lines(*table(rows_of(facts, name)), room=terminal.width_of(sys.stdout) if terminal_here else None)
    for line in lines:
        text = "".join(terminal.paint(text, style, colour) for text, style in line)
        print(terminal.encodable(text, sys.stdout))
    return facts


def describe(x: Any, name: str = "") -> list[Facts]:
    """What `inspect_data` prints, unprinted: one dict for each tensor, array, image or number in `x`, with its path as `name`."""
    return rows_of(_nested(x, 0), name)


def describe_lines(x: Any, name: str = "") -> list[str]:
    """The table that `inspect_data` prints, as plain lines."""
    return ["".join(text for text, _ in line) for line in terminal.table_lines(*table(describe(x, name)))]


def table(rows: list[Facts]) -> tuple[list[str], list[list[Any]]]:
    """The rows of `describe` as columns and cells, for `Console.table`; columns in which nothing stands are left out."""
    full = [
        [
            row["name"],
            row["type"],
            "" if row["shape"] is None else "×".join(map(str, row["shape"])),
            row["dtype"] or "",
            row["device"] or "",
            "yes" if row["requires_grad"] else "",
            *("" if row[key] is None else row[key] for key in ("min", "max", "mean", "var")),
            "" if row["nan_share"] is None else share(row["nan_share"]),
        ]
        for row in rows
    ]
    kept = [i for i in range(len(COLUMNS)) if any(cells[i] != "" for cells in full)]
    return [COLUMNS[i] for i in kept], [[cells[i] for i in kept] for cells in full]


def share(value: float) -> str | int:
    """A share as per cent; one that is small but not 0 never reads as 0."""
    return 0 if value == 0 else f"{100 * value:.1f} %" if value >= 0.001 else "<0.1 %"


def rows_of(facts: dict[Any, Any], name: str = "") -> list[Facts]:
    """The leaves of `inspect_data`'s answer, each with its path: `x`, `pair[0]`, `pair[1].mask`."""
    if _is_leaf(facts):
        return [{"name": name, **facts}]
    rows = []
    for key, value in facts.items():
        path = f"{name}[{key}]" if isinstance(key, int) else f"{name}.{key}" if name else str(key)
        rows += rows_of(value, path)
    return rows


def _is_leaf(facts: dict[Any, Any]) -> bool:
    return "nan_share" in facts and not isinstance(facts["nan_share"], dict)


def _leaf(kind: str, shape: Any = None, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Facts:
    facts: Facts = {"type": kind, "shape": shape, "dtype": dtype, "device": device, "requires_grad": requires_grad}
    return facts | dict.fromkeys(("min", "max", "mean", "var", "nan_share"))


def _nested(x: Any, depth: int) -> dict[Any, Any]:
    if isinstance(x, Tensor):
        return _of_tensor(x)
    if isinstance(x, (np.ndarray, np.generic)):
        return _of_array(np.asarray(x), type(x).__name__)
    if isinstance(x, (bool, int, float, complex)):
        return _of_number(x)
    if type(x).__module__.startswith("PIL.") and hasattr(x, "mode"):
        return _of_array(np.asarray(x), f"Image {x.mode}")
    if isinstance(x, Mapping) and depth < MOST_DEPTH:
        return _of_items(list(x.items()), type(x).__name__, depth)
    if isinstance(x, (tuple, list)) and len(x) > FEW_NUMBERS and all(type(item) in (bool, int, float) for item in x):
        return _of_array(np.asarray(x), type(x).__name__)
    if isinstance(x, (tuple, list)) and depth < MOST_DEPTH:
        return _of_items(list(enumerate(x)), type(x).__name__, depth)
    return _leaf(type(x).__name__, (len(x),) if hasattr(x, "__len__") else None)


def _of_items(items: list[tuple[Any, Any]], kind: str, depth: int) -> dict[Any, Any]:
    if not items:
        return _leaf(kind, (0,))
    facts: dict[Any, Any] = {key: _nested(value, depth + 1) for key, value in items[:MOST_ITEMS]}
    if len(items) > MOST_ITEMS:
        facts["..."] = _leaf(f"{len(items) - MOST_ITEMS} more")
    return facts


def _of_number(x: complex) -> Facts:
    facts = _leaf(type(x).__name__, ())
    missing = x != x
    facts["nan_share"] = float(missing)
    if not missing:
        facts |= {"mean": x, "var": 0.0}
        facts |= {} if isinstance(x, complex) else {"min": x, "max": x}
    return facts


def _of_array(array: np.ndarray[Any, Any], kind: str) -> Facts:
    facts = _leaf(kind, array.shape, str(array.dtype), "cpu")
    if array.dtype.kind not in "biufc":
        return facts
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.float64 if array.dtype.itemsize == 8 else np.int64)
    if array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
        array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    with torch.no_grad():
        return facts | _statistics(torch.tensor(native) if not native.flags.writeable else torch.from_numpy(np.ascontiguousarray(native)))


def _of_tensor(x: Tensor) -> Facts:
    facts = _leaf(type(x).__name__, tuple(x.shape), str(x.dtype).removeprefix("torch."), str(x.device), x.requires_grad)
    if x.layout is not torch.strided or x.is_quantized or x.device.type == "meta":
        return facts
    with torch.no_grad():
        return facts | _statistics(x.detach())


def _statistics(x: Tensor) -> Facts:
    """Range, mean, variance and NaN share of a strided tensor; in two passes over chunks, so that large offsets cost no precision."""
    if not x.numel():
        return {"nan_share": 0.0}
    flat = x.reshape(-1)
    missing = int(sum(chunk.isnan().sum() for chunk in flat.split(CHUNK))) if x.is_floating_point() or x.is_complex() else 0
    facts: Facts = {"nan_share": missing / x.numel()}
    count = x.numel() - missing
    if not count:
        return facts
    if not x.is_complex():
        facts |= _range(flat, missing > 0)
    mean = sum(_plain(_wide(chunk, missing > 0).sum()) for chunk in flat.split(CHUNK)) / count
    if not _finite(mean):
        return {**facts, "mean": mean, "var": math.nan}
    square = sum(_plain((_wide(chunk, missing > 0) - mean).abs().square().sum()) for chunk in flat.split(CHUNK))
    return {**facts, "mean": mean, "var": square / count}


def _range(flat: Tensor, missing: bool) -> Facts:
    exact = torch.float64 if flat.is_floating_point() or flat.dtype == torch.uint64 else torch.int64
    numbers = flat if flat.dtype in HAVE_RANGE else flat.to(exact)
    present = numbers[~numbers.isnan()] if missing else numbers
    low, high = present.min().item(), present.max().item()
    return {"min": int(low), "max": int(high)} if flat.dtype == torch.bool else {"min": low, "max": high}


def _wide(chunk: Tensor, missing: bool) -> Tensor:
    """The chunk's values in double precision where the device has it, without NaN."""
    real = torch.float32 if chunk.device.type == "mps" else torch.float64
    wide = chunk.to(torch.complex128 if chunk.is_complex() else real)
    return wide[~wide.isnan()] if missing else wide


def _plain(value: Tensor) -> Any:
    return value.item()


def _finite(value: complex) -> bool:
    return math.isfinite(value.real) and math.isfinite(value.imag)
