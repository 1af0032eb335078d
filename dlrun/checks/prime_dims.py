"""Another number of rows: 7 rows give outputs for 7 rows. What fits by luck at 64 breaks in evaluation, whose last batch has another size.

The catalogue varies heights and lengths too; networks of a fixed size are usual, so only the number of rows is varied here.
"""

from __future__ import annotations

from typing import Any

from dlrun.batch import Batch
from dlrun.checks._frame import Finding, Subject, check, skipped, tensors
from dlrun.checks._players import each
from dlrun.checks._trouble import first_line, place
from dlrun.run import Run

SIZES = (7, 6)
RULE = "outputs of 7 rows have 7 rows"


@check(stage="outputs", recipe="Hacker's Guide: sizes that are prime numbers show what fits by luck", follows=("shape_contract",))
def prime_dims(subject: Subject) -> Finding:
    """Forwards in eval mode with as many rows as the batch has, with 7, and with 6."""
    if subject.loss_task is None:
        return each(subject, prime_dims)
    rows = len(subject.raw)
    if rows < 8:
        return skipped(f"a batch has {rows} rows: there is no smaller prime number to try")
    if subject.kind == "contrastive" or subject.run.task.couples_rows or subject.expects.get("rows_interact"):
        return skipped("rows belong together here: a batch of another size may not be one")
    run = subject.copy()
    whole = _sizes(subject, run, subject.raw)
    if isinstance(whole, Exception):
        raise whole
    seven, six = (_sizes(subject, run, subject.raw[:size]) for size in SIZES)
    numbers: dict[str, Any] = {"rows": rows, "leading": whole}
    if isinstance(seven, Exception) and isinstance(six, Exception):
        text = f"the network takes {rows} rows, but not {SIZES[0]}: {first_line(seven)}{place(seven)}"
        return Finding("error", text, "the batch size is written into the network", "use len(x), or -1 in view", numbers, RULE)
    if isinstance(seven, Exception) or isinstance(six, Exception):
        return Finding("info", f"the network takes even numbers of rows only ({rows})", numbers=numbers, threshold=RULE)
    numbers["leading_of_7"] = seven
    wrong = [place for place, (a, b) in enumerate(zip(whole, seven, strict=False)) if a == rows and b != SIZES[0]]
    if wrong:
        text = f"{SIZES[0]} rows give an output of {seven[wrong[0]]} rows"
        cause = "the batch size is written into the network, or axes of other sizes were mixed with it"
        return Finding("warning", text, cause, "use len(x), or -1 for another axis in view", numbers, RULE)
    return Finding("ok", f"{SIZES[0]} rows give outputs of {SIZES[0]} rows", numbers=numbers, threshold=RULE)


def _sizes(subject: Subject, run: Run, raw: Batch) -> list[int] | Exception:
    """The leading sizes of all outputs, or what was raised."""
    try:
        return [len(t) for t in tensors(subject.outputs(run, subject.prepared(run, raw), training=False)) if t.dim()]
    except Exception as error:
        return error
