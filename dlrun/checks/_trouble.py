"""Exceptions while a check was at work: is it the set-up that cannot run, or only what the check tried on it?"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dlrun.advice import advice
from dlrun.batch import Batch
from dlrun.checks._finding import Finding, NoCopy, skipped
from dlrun.finite import NonFinite

PACKAGE = Path(__file__).parents[1]


def stopped(error: Exception, subject: Any) -> Finding:
    """The verdict of a check that `error` ended: an error where an ordinary step or evaluation ends so too, else not applicable.

    What a check tries (one row, zeros, another seed) is not what the training does: that it fails there proves nothing.
    """
    try:
        ordinary = ordinary_error(subject)
    except NoCopy:
        ordinary = error
    if ordinary is None:
        return skipped(f"could not be tried on this set-up ({first_line(error)})")
    text = f"{first_line(ordinary, 300)}{place(ordinary)}"
    cause = advice(ordinary) or "the parts do not fit together"
    return Finding("error", text, cause, "dlrun train --pdb stops there", blocks=True)


def ordinary_error(subject: Any) -> Exception | None:
    """What one training step and one evaluation batch raise on a copy; None where both run."""
    run = subject.copy()
    try:
        for _ in subject.fit(run, subject.raw, 1):
            pass
        batch: Batch = run.data.head("val" if "val" in run.data.rows else "train", 32)
        with subject.forward(run, False), run.precision.autocast():
            run.task.evaluate(run.nets, subject.prepared(run, batch))
    except (NonFinite, torch.OutOfMemoryError):
        return None
    except Exception as error:
        return error
    return None


def place(error: BaseException) -> str:
    """` (mine.py:12, in forward)`: the last line of the user's own file on the way to `error`; "" where there is none."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and not frame.filename.startswith(("<", str(PACKAGE), str(Path(traceback.__file__).parent)))
    ]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name})" if own else ""


def first_line(error: BaseException, most: int = 120) -> str:
    """`TypeError: what it says`, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:most]}"


def uncopied(parts: Mapping[str, Any]) -> str:
    """Which of `parts` cannot be copied by itself."""
    for name, part in parts.items():
        try:
            copy.deepcopy(part)
        except Exception:
            return name
    return "the run"
