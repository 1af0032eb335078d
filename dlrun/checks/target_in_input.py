"""The answer among the inputs: a label column left among the features, a language model whose targets are not the next token.

The catalogue's rule (one feature that predicts y with R2 or AUC above 0.99) fires on every easy task with one good feature. What tells a
copy from a good feature is exactness (a column with one value a class and never another, or a number that is y but for unit and zero) and
that it is not needed: without it the other columns still tell the target. Data made up so that y is one column of x has no others.

Columns that do not last are the matter of `_columns.py`, an answer that a decoder is fed that of `_answers.py`.

Tokens: y[t] = x[t] on every position is an error only if the loss compares position t with it; a loss may shift by itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrun.checks._ahead import adds_up, looks_ahead
from dlrun.checks._answers import answer
from dlrun.checks._columns import by_step, filled_for, own_targets, ranked_as, row_numbers
from dlrun.checks._frame import Finding, Subject, check, skipped
from dlrun.checks._inputs import is_integer, labels, one_a_row, parts, sample, tables
from dlrun.checks._rows import Rows
from dlrun.checks._series import in_order
from dlrun.checks.shape_contract import main_output
from dlrun.functional.relation import Relation, within

LEAST, MOST_COLUMNS = 32, 4096
EXACT = 1e-5
TIGHT = 0.01
CLEAR, TOLD = 4.0, 0.15
COPIED, NEXT = 0.95, 0.98
WIDE, WIDEST, FEW = 64, 256, 0.2
RULE = (
    f"warning: a column of x names the class, or is y but for its unit (1 - r2 < {EXACT:g}), or on another scale (log, root, rank), "
    "or has one value in all rows of a class and others elsewhere, and the others tell y too; "
    "or a column is a mean over rows that takes in their own target; "
    "or it numbers the rows of a file sorted by target; or it tells train's targets and not val's, while the others tell both; "
    "info: the target is an exact sum or product of a few columns while the others tell it; "
    f"error: y is x on over {COPIED:.0%} of the tokens, or an input that the output of the same step reads"
)


@check(stage="data", recipe="Hacker's Guide: too good to be true", follows=("item_stability", "constant_input", "label_histogram"))
def target_in_input(subject: Subject) -> Finding:
    """Each column of up to 1,024 rows against y; tokens against targets at shifts of -2 to 3."""
    rows = sample(subject, "train")
    kind, x, y = subject.kind, rows.x, rows.y
    if kind in ("language_model", "sequence") and isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape and is_integer(x):
        return _tokens(subject, x.cpu(), y.cpu())
    read = answer(subject) if kind in ("language_model", "sequence", "regression") else None
    if read:
        text = f"{read} equals the targets, and the output of each step reads the entry of the same step"
        cause = "the decoder is fed the answer that it is to give, not the one of the step before"
        return Finding("error", text, cause, f"shift {read} by one: a start symbol, then y[:, :-1]", {"input": read}, RULE)
    known = _columns(subject, rows)
    if isinstance(known, str):
        return skipped(known)
    table, names, target, classes = known
    wide = len(names)
    which = _names_class(table, target, classes) if classes else _is_number(table, target.double())
    which = which or (ranked_as(table, target.double()) if not classes and wide <= WIDE else [])
    numbers: dict[str, Any] = {"rows": len(table), "columns": wide, "copies": [names[i] for i in which[:20]]}
    made = _made(subject, table, names, target, classes, numbers)
    made = made or (None if which or classes else _with_target(subject, table, names, target, numbers))
    if made and not which:
        return made
    if not which or len(which) > max(0.2 * wide, 1, classes or 1):
        return Finding("ok", f"no column of x is the target ({len(table)} rows, {wide} columns)", numbers=numbers, threshold=RULE)
    shown = (
        f"{', '.join(names[i] for i in which[:5])}{' ...' if len(which) > 5 else ''} {'are' if len(which) > 1 else 'is'} the target itself"
    )
    rest = _without(table, which, target, classes)
    numbers["told_by_others"] = rest.strength
    if rest.z < CLEAR or rest.strength < TOLD:
        text = f"{shown}; the other columns tell little of it ({rest.strength:.2f}), so it may be meant"
        return Finding("info", text, numbers=numbers, threshold=RULE)
    cause = "the label column was left among the features"
    return Finding("warning", f"{shown}, on all {len(table)} rows looked at", cause, "drop it from x", numbers, RULE)


def _columns(subject: Subject, rows: Rows) -> tuple[Tensor, list[str], Tensor, int | None] | str:
    """(inputs as columns, their names, targets, classes) of rows, or of steps that have a target each; why not where there are none."""
    steps = by_step(rows) if subject.kind in ("sequence", "graph") else None
    if steps:
        return steps
    known = labels(subject, rows.y)
    if known is None or len(rows) < LEAST or not one_a_row(subject, rows.y):
        return "there is no label or number a row to look for among inputs"
    columns = [(name, leaf.detach().cpu().reshape(len(leaf), -1)) for name, leaf in parts(rows.x).items()]
    wide = sum(flat.shape[1] for _, flat in columns)
    if wide < 2 or wide > MOST_COLUMNS:
        return f"looked for among 2 to {MOST_COLUMNS} columns of x; here there are {wide}"
    names = [f"{name}[{place}]" for name, flat in columns for place in range(flat.shape[1])]
    return torch.cat([flat.double() for _, flat in columns], 1), names, *known


def _made(subject: Subject, table: Tensor, names: list[str], y: Tensor, classes: int | None, numbers: dict[str, Any]) -> Finding | None:
    """The finding where a column numbers the rows of a sorted file, or was made of train's own targets."""
    which = row_numbers(table, y, classes) if table.shape[1] <= WIDE else []
    rest = _without(table, which, y, classes) if which else None
    if rest and rest.z > CLEAR and rest.strength > TOLD:
        text = f"{names[which[0]]} numbers the rows: its values stand on an even grid and all differ; targets lie in blocks along it"
        cause = "the file was sorted by the target, and the row's number stayed among the columns"
        return Finding("warning", text, cause, "drop it from x", numbers | {"row_number": names[which[0]]}, RULE)
    known = tables(subject)
    plain = len(known) == 2 and known["train"].x.shape[1] == len(names)
    filled = filled_for(table, y) if classes and table.shape[1] <= WIDE else []
    rest = _without(table, [column for column, _ in filled], y, classes) if filled else None
    if rest and len(filled) <= max(1, FEW * len(names)) and rest.z > CLEAR and rest.strength > TOLD:
        column, label = filled[0]
        text = (
            f"{names[column]} is {float(table[y == label][0, column]):.4g} in all {int((y == label).sum())} rows of class {label}, and has "
        )
        text += "many other values in rows of other classes"
        cause = "it is filled in once the outcome is known, and will be missing when it is asked for"
        return Finding("warning", text, cause, "drop it from x", numbers | {"filled_for_others": names[column]}, RULE)
    made = own_targets(known["train"], known["val"]) if plain and table.shape[1] <= WIDE else None
    if made is None:
        return None
    one, two = made.others
    text = f"{names[made.column]} alone tells train's targets ({made.train.strength:.2f}) and not val's ({made.val.strength:.2f}), "
    text += f"while the other columns tell both ({one:.2f}, {two:.2f})"
    cause = "the column was computed from the targets of these very rows (an encoding by mean target)"
    step = "compute it from other rows: out of fold, or from an earlier period"
    return Finding("warning", text, cause, step, numbers | {"made_of_targets": names[made.column]}, RULE)


def _with_target(subject: Subject, table: Tensor, names: list[str], y: Tensor, numbers: dict[str, Any]) -> Finding | None:
    """The finding where columns were computed with the target: a mean over time that takes it in, or parts that add up to it."""
    step = "compute it from what is known when the target is asked for: earlier rows alone"
    ahead = looks_ahead(*in_order(subject)) if subject.patience > 1 and len(names) <= WIDEST else []
    if ahead and len(ahead) <= max(1, FEW * len(names)):
        text = f"{names[ahead[0]]} is, exactly, a mean with weights over rows of train in their order that takes in the row's own target"
        cause = "a rolling mean that is centred, or smoothing over the whole series: it looks ahead"
        return Finding("warning", text, cause, step, numbers | {"looks_ahead": [names[column] for column in ahead]}, RULE)
    line = adds_up(table, y)
    if line is None:
        return None
    used = [names[column] for column in line.columns]
    text = f"the target is exactly {'a product' if line.product else 'a sum'} of {', '.join(used)}, each times "
    text += f"{'its own power' if line.product else 'a number'}; the other columns tell it too ({line.others:.2f})"
    cause = "one of these columns was computed with the target (a total, a part of it), or the target was made by such a formula"
    return Finding("info", text, cause, step, numbers | {"adds_up": used, "others": line.others}, RULE)


def _without(table: Tensor, which: list[int], y: Tensor, classes: int | None) -> Relation:
    """What the columns that are no copies tell of y."""
    kept = [i for i in range(table.shape[1]) if i not in set(which)]
    rest = table[:, kept].float()
    return within(rest, y, classes) if kept and bool(rest.isfinite().all()) else Relation(0.0, 0.0, len(y))


def _names_class(flat: Tensor, y: Tensor, classes: int) -> list[int]:
    """Columns that have one value for each class (or lie that close), and one-hot codes of all classes."""
    present = y.unique()
    if len(present) < 2:
        return []
    means = torch.stack([flat[y == label].mean(0) for label in present])
    spreads = torch.stack([(flat[y == label] - means[i]).abs().amax(0) for i, label in enumerate(present)]).amax(0)
    ordered = means.sort(0).values
    gaps = (ordered[1:] - ordered[:-1]).amin(0)
    exact = (spreads <= 1e-6 * ordered.abs().amax(0)) & (gaps > 1e-4 * ordered.abs().amax(0))
    line = torch.stack((present.double(), torch.ones(len(present), dtype=torch.float64)), 1)
    fitted = line @ torch.linalg.lstsq(line, means).solution
    straight = (means - fitted).abs().amax(0) < TIGHT * gaps  # of two classes any two means are
    close = (spreads < TIGHT * gaps) & straight
    found = (exact | close).nonzero().flatten().tolist()
    if found or len(present) < 3:
        return [int(i) for i in found]
    codes = [((flat == flat[y == label][:1]).eq((y == label)[:, None])).all(0).nonzero().flatten().tolist() for label in present]
    return [int(code[0]) for code in codes] if all(codes) and _fills(flat, codes) else []


def _fills(flat: Tensor, codes: list[list[int]]) -> bool:
    """Whether the columns of a one-hot code are as many different ones as classes."""
    return len({code[0] for code in codes}) == len(codes)


def _is_number(flat: Tensor, y: Tensor) -> list[int]:
    """Columns that are an exact line of a column of y."""
    x = flat - flat.mean(0)
    x, y = x / x.norm(dim=0).clamp(min=1e-12), y - y.mean(0)
    y = y / y.norm(dim=0).clamp(min=1e-12)
    return [int(i) for i in ((x.T @ y).square().amax(1) > 1 - EXACT).nonzero().flatten().tolist()]


def _tokens(subject: Subject, x: Tensor, y: Tensor) -> Finding:
    """Which token of x the targets are; what counts are targets that are no filler."""
    counted = (y >= 0) & (y != y[y >= 0].mode().values) if bool((y >= 0).any()) else y >= 0
    if int(counted.sum()) < 100 or x.shape[1] < 6:
        return skipped("there are too few tokens to tell targets from inputs")
    shares = {shift: _share(x, y, counted, shift) for shift in (-2, -1, 0, 1, 2, 3)}
    best = max(shares, key=lambda shift: shares[shift])
    numbers: dict[str, Any] = {f"y[t] = x[t{shift:+d}]": share for shift, share in shares.items()}
    if shares[1] >= NEXT or shares[best] < COPIED or subject.kind == "sequence":
        seen = f"targets are the next token on {shares[1]:.0%} of positions, the same one on {shares[0]:.0%}"
        return Finding("ok", seen, numbers=numbers, threshold=RULE)
    if best == 0:
        if _shifts_itself(subject):
            return Finding("ok", "targets are the inputs; the loss shifts them by itself", numbers=numbers, threshold=RULE)
        cause = "targets are not shifted: the network is asked for the token it is given"
        return Finding("error", f"y is x on {shares[0]:.0%} of the tokens", cause, "x = tokens[:-1], y = tokens[1:]", numbers, RULE)
    text = f"y[t] is x[t{best:+d}] on {shares[best]:.0%} of the tokens, the next one on {shares[1]:.0%}"
    cause = "targets are shifted the wrong way: they stand in the input already" if best < 0 else "targets are shifted too far"
    level = "error" if best < 0 else "warning"
    return Finding(level, text, cause, "x = tokens[:-1], y = tokens[1:]", numbers, RULE)


def _share(x: Tensor, y: Tensor, counted: Tensor, shift: int) -> float:
    """The share of counted positions t with y[t] = x[t + shift]."""
    size = x.shape[1]
    here = slice(max(0, -shift), size - max(0, shift))
    there = slice(max(0, shift), size - max(0, -shift))
    valid = counted[:, here]
    return float((x[:, there] == y[:, here])[valid].float().mean()) if bool(valid.any()) else 0.0


def _shifts_itself(subject: Subject) -> bool:
    """Whether another target at position t changes the loss's slope at t - 1 and not at t."""
    if subject.loss_task is None:
        return False
    run, batch = subject.copy(), subject.batch
    out, y = subject.outputs(run, batch, training=False), batch["y"]
    logits = main_output(run, out)
    if logits is None or logits is not out:
        return False
    place = y.shape[1] // 2
    other = y.clone()
    other[:, place] = torch.where(y[:, place] == y[:, place].max(), y[:, place].min(), y[:, place].max())
    moved = (_slope(subject, run, logits, batch.replace(y=other)) - _slope(subject, run, logits, batch)).abs()
    axis = 1 if moved.shape[1] == y.shape[1] else 2
    here = moved.movedim(axis, 0).flatten(1).amax(1)
    return bool(here[place - 1] > 0 and here[place] == 0) if len(here) > place else moved.shape[axis] == y.shape[1] - 1


def _slope(subject: Subject, run: Any, logits: Tensor, batch: Any) -> Tensor:
    leaf = logits.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(subject.live_loss(run, leaf, batch), leaf)[0]
