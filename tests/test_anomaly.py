"""After a value that is no number: the operation that made it, with its line, forward and backward; masks are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import runs
import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun import registry
from dlrun.anomaly import first_operation
from dlrun.errors import AnswerNo


def of(loss: Callable[[Tensor], Tensor], *values: float) -> str:
    x = torch.tensor(values, requires_grad=True)
    return first_operation(lambda then: then(loss(x)))


def test_the_first_of_several_is_named_with_its_line() -> None:
    said = of(lambda x: (x.exp().log() * (x * 0).log() * 0).sum(), 1.0, 2.0)
    line = test_the_first_of_several_is_named_with_its_line.__code__.co_firstlineno + 1
    assert said == f"log (test_anomaly.py:{line}, in <lambda>) gave infinity, then mul (test_anomaly.py:{line}, in <lambda>) NaN"
    assert of(lambda x: x.log().sum(), -1.0).startswith("log (") and "gave NaN" in of(lambda x: x.log().sum(), -1.0)
    assert "gave infinity" in of(lambda x: (1e30 * x).square().sum(), 1.0)


def test_a_gradient_that_is_nan_is_traced_to_the_operation_forward() -> None:
    """d sqrt(x^2)/dx at 0 is inf x 0: the square's gradient is the first NaN, and both stand on one line."""
    said = of(lambda x: x.square().sqrt().sum(), 0.0)
    line = test_a_gradient_that_is_nan_is_traced_to_the_operation_forward.__code__.co_firstlineno + 2
    assert said == f"the gradient of pow (test_anomaly.py:{line}, in <lambda>) is NaN"


def test_what_is_sound_names_nothing() -> None:
    assert of(lambda x: x.exp().sum(), 1.0) == ""

    def masked(x: Tensor) -> Tensor:
        scores = x.expand(3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf)
        return scores.softmax(-1).log_softmax(-1).mean()

    assert of(masked, 1.0, 2.0, 3.0) == ""
    empty = first_operation(lambda then: then(torch.empty(4, requires_grad=True).detach().fill_(1.0).requires_grad_().sum()))
    assert empty == ""


def test_a_mask_is_not_what_made_the_nan() -> None:
    """A row of -inf alone: the softmax is what gives NaN."""

    def masked(x: Tensor) -> Tensor:
        return x.expand(2, 3).masked_fill(torch.ones(2, 3).bool(), -torch.inf).softmax(-1).sum()

    assert "softmax (test_anomaly.py" in of(masked, 1.0, 2.0, 3.0)


def test_a_failure_while_looking_hides_nothing() -> None:
    def breaks(then: Callable[[Tensor], None]) -> None:
        raise RuntimeError("again")

    assert first_operation(breaks) == ""


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_run_that_stops_says_which_operation(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd_loss(out: Tensor, y: Tensor) -> Tensor:
        zero = out - out.detach()
        odd = zero.sum().log() if where == "loss" else 0.0 * zero.square().sum().sqrt()
        return F.cross_entropy(out, y) + (odd if out.requires_grad else 0.0)

    monkeypatch.setitem(registry.PLUGINS["loss"], "odd_loss", odd_loss)
    with pytest.raises(AnswerNo) as caught:
        runs.start(tmp_path, "loss=odd_loss", "train.steps=3", "model.width=8")
    said = caught.value.lines[0]
    assert said.startswith("step 1: non-finite") and "(test_anomaly.py:" in said and "in odd_loss)" in said
    assert ("log (test_anomaly.py" in said and "gave infinity" in said) if where == "loss" else "the gradient of" in said
    assert ("no layer's output is: the loss itself is" in said) is (where == "loss")
