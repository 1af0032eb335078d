"""Losses over classes: which output is pulled up, in which row, at which token, and which rows do not count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks_found import CLOUDS, built, first_loud, found, judged, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net
from torch import Tensor, nn

from dlrun import DataSpec, Splits

ce = F.cross_entropy
LABELS = ("dataset=several_labels", "task=supervised")
FAULTS: dict[str, tuple[str, Any, str]] = {
    "negated": ("ce_gradient_signature", lambda out, y: -ce(out, y), "falls where the target's output gets smaller"),
    "softmax_over_batch": ("ce_gradient_signature", lambda out, y: F.nll_loss(out.log_softmax(0), y), "compares along axis 0"),
    "nll_of_logits": ("ce_gradient_signature", lambda out, y: F.nll_loss(out, y), "no lower bound"),
    "nll_of_shares": ("ce_gradient_signature", lambda out, y: F.nll_loss(out.softmax(1), y), "not minus its logarithm"),
    "row_before": ("ce_gradient_signature", lambda out, y: ce(out, y.roll(1)), "row i with the target of row i-1"),
    "class_above": ("ce_gradient_signature", lambda out, y: ce(out, (y + 1) % 4), "class y+1 where the target is class y"),
    "view": ("ce_gradient_signature", lambda out, y: ce(out.t().reshape(out.shape), y), "does not pull the target's output up"),
    "broadcast": ("ce_gradient_signature", lambda out, y: F.mse_loss(out, y[:, None].float().expand_as(out)), "does not pull"),
    "detached": ("graph_reach", lambda out, y: ce(out.detach(), y), "the loss has no gradient at all"),
    "argmax": ("graph_reach", lambda out, y: (out.argmax(1) != y).float().mean(), "the loss has no gradient at all"),
    "first_half": ("loss_coverage", lambda out, y: ce(out[: len(y) // 2], y[: len(y) // 2]), "rows do not count"),
    "ignores_class_0": ("loss_coverage", lambda out, y: ce(out, y, ignore_index=0), "rows of class 0 do not count"),
    "weight_of_0": ("loss_coverage", lambda out, y: ce(out, y, weight=torch.tensor([1.0, 1, 0, 1])), "rows of class 2 do not count"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_losses_that_pull_at_the_wrong_outputs(case: str) -> None:
    check, loss, said = FAULTS[case]
    plug("loss", "mine", loss)
    finding = judged(check, *CLOUDS, "loss=mine")
    assert finding.level == "error" and said in finding.message and finding.cause and finding.next


FIRST = ["softmax_over_batch", "view"]
REST = ["nll_of_logits", "row_before", "class_above", "ignores_class_0", "first_half"]


@pytest.mark.parametrize("case", [*FIRST, *(pytest.param(case, marks=pytest.mark.slow) for case in REST)])
def test_they_are_the_first_that_is_said(case: str) -> None:
    check, loss, _ = FAULTS[case]
    plug("loss", "mine", loss)
    assert first_loud(found(*CLOUDS, "loss=mine", level="check")) == check


def one_against_rest(out: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(out, F.one_hot(y, 4).float())


def hardest(out: Tensor, y: Tensor) -> Tensor:
    return ce(out, y, reduction="none").topk(max(1, len(y) // 2)).values.mean()


def bootstrapped(out: Tensor, y: Tensor) -> Tensor:
    return 0.8 * ce(out, y) + 0.2 * ce(out, out.argmax(1))


HEALTHY: dict[str, Any] = {
    "plain": lambda out, y: ce(out, y),
    "smooth": lambda out, y: ce(out, y, label_smoothing=0.3),
    "weights": lambda out, y: ce(out, y, weight=torch.tensor([0.1, 5.0, 1.0, 1.0])),
    "squares": lambda out, y: F.mse_loss(out, F.one_hot(y, 4).float()),
    "hinge": lambda out, y: F.multi_margin_loss(out, y),
    "perceptron": lambda out, y: (out.amax(1) - out.gather(1, y[:, None])[:, 0]).mean(),
    "one_against_rest": one_against_rest,
    "hot": lambda out, y: ce(out / 0.2, y),
    "robust": lambda out, y: ((1 - out.softmax(1).gather(1, y[:, None]) ** 0.7) / 0.7).mean(),
    "bootstrapped": bootstrapped,
    "penalty": lambda out, y: ce(out, y) - 0.05 * torch.distributions.Categorical(logits=out).entropy().mean(),
    "sum": lambda out, y: ce(out, y, reduction="sum"),
    "squares_of_softmax": lambda out, y: (out.softmax(1) - F.one_hot(y, 4)).square().sum(1).mean(),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_losses_over_classes_that_are_sound(case: str) -> None:
    plug("loss", "mine", HEALTHY[case])
    findings = found(*CLOUDS, "loss=mine")
    assert first_loud(findings) == ""
    assert findings["ce_gradient_signature"].level == findings["loss_coverage"].level == "ok"


def test_a_loss_of_the_hardest_rows_is_no_error_of_coverage_alone() -> None:
    plug("loss", "mine", hardest)
    assert judged("ce_gradient_signature", *CLOUDS, "loss=mine").level == "ok"


def test_labels_that_do_not_exclude_each_other() -> None:
    plug("loss", "mine", lambda out, y: ce(out, y))
    findings = found(*LABELS, "loss=mine")
    finding = findings["ce_gradient_signature"]
    assert first_loud(findings) == "ce_gradient_signature" and finding.level == "error" and "0 to 2 labels" in finding.message
    assert judged("ce_gradient_signature", *LABELS, "loss=bce").level == "ok"


class ArcFace(nn.Module):
    """Classes inside the loss: outputs are embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        return ce(16 * F.normalize(out, dim=1) @ F.normalize(self.weight, dim=1).T, y)


def test_outputs_that_are_embeddings_are_no_logits() -> None:
    plug("loss", "mine", ArcFace)
    findings = found(*CLOUDS, "loss=mine")
    assert first_loud(findings) == "" and findings["ce_gradient_signature"].level == "not_applicable"


def cumulative(out: Tensor, y: Tensor) -> Tensor:
    """Ordinal regression: output k says whether y > k."""
    return F.binary_cross_entropy_with_logits(out, (y[:, None] > torch.arange(3)).float())


def test_ordinal_outputs_are_no_logits_of_classes() -> None:
    plug("loss", "mine", cumulative)
    findings = found(*CLOUDS, "model=three", "loss=mine")
    assert findings["ce_gradient_signature"].level == "not_applicable" and findings["loss_coverage"].level in ("ok", "not_applicable")


# -- tokens ---------------------------------------------------------------------------------------------------------------------------

V, T = 12, 16


def texts() -> dict[str, tuple[Tensor, Tensor]]:
    """Tokens without structure, cut in several ways; 0 is padding in `padded` and never occurs elsewhere."""
    draw = torch.Generator().manual_seed(0)
    text = torch.randint(1, V, (256, T + 1), generator=draw)
    lengths = torch.randint(4, T + 1, (256,), generator=draw)
    padded = text.clone()
    padded[torch.arange(T + 1)[None] > lengths[:, None]] = 0
    marked = padded[:, 1:].clone()
    marked[marked == 0] = -100
    hidden = torch.rand(256, T, generator=draw) < 0.15
    return {
        "next": (text[:, :-1], text[:, 1:]),
        "same": (text[:, :-1], text[:, :-1]),
        "padded": (padded[:, :-1], padded[:, 1:]),
        "marked": (padded[:, :-1], marked),
        "hidden": (text[:, 1:].masked_fill(hidden, 0), text[:, 1:].masked_fill(~hidden, -100)),
    }


class Bigram(nn.Module):
    def __init__(self, last: Callable[[Tensor], Tensor] = lambda z: z) -> None:
        super().__init__()
        self.embed, self.head, self.last = nn.Embedding(V, 16), nn.Linear(16, V), last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.head(self.embed(x)))


def flat(out: Tensor, y: Tensor, **more: Any) -> Tensor:
    return ce(out.flatten(0, 1), y.flatten(), **more)


def filler_only(out: Tensor, y: Tensor) -> Tensor:
    wrong = (y == 0).float()
    return (ce(out.transpose(1, 2), y, reduction="none") * wrong).sum() / wrong.sum().clamp(min=1)


TOKEN_FAULTS: dict[str, tuple[str, str, Any, str]] = {
    "view": ("next", "ce_gradient_signature", lambda out, y: ce(out.reshape(len(out), V, -1), y), "does not pull the target's output up"),
    "swapped": ("next", "ce_gradient_signature", lambda out, y: ce(out.flatten(0, 1), y.t().flatten()), "does not pull"),
    "twice": ("next", "ce_gradient_signature", lambda out, y: flat(out[:, :-1], y[:, 1:]), "is to name token t+2"),
    "back": ("next", "ce_gradient_signature", lambda out, y: flat(out[:, 1:], y[:, :-1]), "is to name token t, which it is given"),
    "over_time": ("next", "ce_gradient_signature", lambda out, y: F.nll_loss(out.log_softmax(1).flatten(0, 1), y.flatten()), "axis 1"),
    "inverted": ("padded", "loss_coverage", filler_only, "only places whose target is 0 count"),
    "ignores_3": ("next", "loss_coverage", lambda out, y: flat(out, y, ignore_index=3), "inside a row: no filler"),
    "first_row": ("next", "loss_coverage", lambda out, y: ce(out[0], y[0]), "31 of 32 rows do not count"),
}
TOKEN_HEALTHY: dict[str, tuple[str, Any]] = {
    "transposed": ("next", lambda out, y: ce(out.transpose(1, 2), y)),
    "flat": ("next", flat),
    "shifts_itself": ("same", lambda out, y: flat(out[:, :-1], y[:, 1:])),
    "ignores_filler": ("padded", lambda out, y: flat(out, y, ignore_index=0)),
    "marked": ("marked", flat),
    "hidden": ("hidden", flat),
    "last_only": ("next", lambda out, y: ce(out[:, -1], y[:, -1])),
}
LM = ("dataset=tokens", "model=bigram", "task=supervised", "task.kind=language_model", "loss=mine")


def cut(name: str) -> None:
    x, y = texts()[name]
    plug("dataset", "tokens", lambda: Splits((x, y), (x[:64], y[:64]), spec=DataSpec((T,), (T, V), "language_model", vocab=V)))
    plug("model", "bigram", lambda: Bigram())


@pytest.mark.parametrize("case", TOKEN_FAULTS)
def test_losses_over_tokens(case: str) -> None:
    data, check, loss, said = TOKEN_FAULTS[case]
    cut(data), plug("loss", "mine", loss)
    finding = judged(check, *LM)
    assert finding.level in ("warning", "error") and said in finding.message and finding.next


@pytest.mark.parametrize("case", TOKEN_HEALTHY)
def test_losses_over_tokens_that_are_sound(case: str) -> None:
    data, loss = TOKEN_HEALTHY[case]
    cut(data), plug("loss", "mine", loss)
    for check in (
        "output_form",
        "ce_gradient_signature",
        "loss_coverage",
        "loss_direction",
        "row_separable",
        "reduction",
        "metric_recheck",
    ):
        finding = judged(check, *LM)
        assert finding.level in ("ok", "info", "not_applicable"), finding


def test_a_softmax_over_time_in_the_network() -> None:
    cut("next"), plug("model", "bigram", lambda: Bigram(lambda z: z.log_softmax(1)))
    plug("loss", "mine", lambda out, y: F.nll_loss(out.flatten(0, 1), y.flatten()))
    finding = judged("output_form", *LM)
    assert finding.level == "error" and "sum to 1 over axis 1, the 12 classes are axis 2" in finding.message


def test_nodes_that_a_mask_leaves_out_and_the_loss_counts() -> None:
    draw = torch.Generator().manual_seed(0)
    mask = torch.arange(10)[None] < torch.randint(4, 10, (128, 1), generator=draw)
    x = torch.randn(128, 10, 8, generator=draw)
    y = (x[..., 0] > 0).long() + (x[..., 1] > 0) + 0
    y = torch.where(mask, y, 0)

    class Nodes(Net):
        def forward(self, x: Any) -> Tensor:
            return super().forward(x["nodes"])

    plug(
        "dataset",
        "graphs",
        lambda: Splits({"x": {"nodes": x, "there": mask}, "y": y}, {"x": {"nodes": x[:9], "there": mask[:9]}, "y": y[:9]}),
    )
    plug("model", "nodes", lambda: Nodes(8, 3))
    plug("loss", "mine", flat)
    words = ("dataset=graphs", "model=nodes", "task=supervised", "task.kind=graph", "loss=mine")
    finding = judged("loss_coverage", *words)
    assert finding.level == "warning" and "a mask in x leaves them out" in finding.message
    y = torch.where(mask, y, -100)
    assert judged("loss_coverage", *words).level == "ok"


def test_checks_of_losses_leave_the_run_as_it_was() -> None:
    run = built(*CLOUDS)
    before = {key: value.clone() for key, value in run.modules["model"].state_dict().items()}
    found(*CLOUDS)
    assert all(torch.equal(before[key], value) for key, value in run.modules["model"].state_dict().items())
