"""Values: scale, layout, bytes that wrapped, constants, targets among inputs, counts; and odd ones that are right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import DataSpec, Splits, asked, clouds, draw, every, numbers, plain, sliding, smooth
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn


def column(x: Tensor, place: int, factor: float, shift: float = 0.0) -> Tensor:
    x = x.clone()
    x[:, place] = x[:, place] * factor + shift
    return x


SCALES = {
    "bytes": lambda x: x * 60 + 130,
    "one_column": lambda x: column(x, 0, 1e4),
    "years": lambda x: column(x, 2, 10, 2000),
    "twice": lambda x: x / 255 / 255,
    "far": lambda x: x + 20,
}


@pytest.mark.parametrize("case", SCALES)
def test_raw_units(case: str) -> None:
    finding = asked("input_scale", numbers(), spoil=every(SCALES[case]))
    assert finding.level == "warning" and "standardised" in finding.message


@pytest.mark.parametrize(
    "change", [lambda x: x, lambda x: (x * 5 + 20).round().clamp(0), lambda x: x.sigmoid(), lambda x: (x > 1.5).float()]
)
def test_usual_scales_counts_shares_and_sparse_rows(change: Any) -> None:
    assert asked("input_scale", numbers(), spoil=every(change)).level == "ok"


class Scales(nn.Module):
    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__()
        self.net = plain(in_shape, out_shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - 130) / 60)  # type: ignore[no-any-return]


def test_a_network_that_scales_by_itself() -> None:
    plug("model", "scales", Scales)
    finding = asked("input_scale", numbers(), "model=scales", spoil=every(SCALES["bytes"]))
    assert finding.level == "info" and "does as well" in finding.message


def test_a_view_where_a_permute_was_meant() -> None:
    plug("model", "sliding", sliding)
    x, y = smooth(4)
    view = x.permute(0, 2, 3, 1).contiguous().view(x.shape)
    finding = asked("layout", (view, y), "model=sliding")
    assert finding.level == "warning" and "with channels last in memory" in finding.message
    assert asked("layout", (x, y), "model=sliding").level == "ok"
    assert asked("layout", (view, y)).level == "info"
    narrow = x[..., :8].transpose(2, 3).contiguous().view(900, 3, 12, 8)
    assert "height and width exchanged" in asked("layout", (narrow, y), "model=sliding").message
    assert asked("layout", (x[..., :8].contiguous(), y), "model=sliding").level == "ok"
    assert asked("layout", (torch.randn(900, 3, 8, 8, generator=draw()), y), "model=sliding").level == "info"


def test_bytes_that_wrapped() -> None:
    x, y = smooth(4)
    levels = (x * 40 + 128).clamp(0, 255).to(torch.uint8)
    assert asked("integer_traps", ((levels * 2).float() / 255, y)).level == "warning"
    assert "uint8" in asked("integer_traps", ((levels * 2).float() / 255, y)).cause
    assert asked("integer_traps", (levels.float() / 255, y)).level == "ok"
    shapes = (x > 0).float() * 200 + 20 + 4 * torch.randn(x.shape, generator=draw())
    assert asked("integer_traps", (shapes.round() / 255, y)).level == "ok"


def test_fractions_that_were_cut_off() -> None:
    x, y = numbers()
    finding = asked("integer_traps", (x, (2 * y).int().float()))
    assert finding.level == "warning" and "cut off" in finding.cause
    assert asked("integer_traps", (x, (2 * y).round())).level == "info"
    assert asked("integer_traps", (x, y)).level == "ok"


def test_inputs_that_are_all_the_same_and_blank_ones() -> None:
    finding = asked("constant_input", clouds(), spoil=every(lambda x: x[:1].expand_as(x).clone(), "train"))
    assert finding.level == "error" and "the same for every item" in finding.message
    assert asked("constant_input", clouds()).level == "ok"
    x, y = smooth()
    blank = x * (torch.rand(900, 1, 1, 1, generator=draw()) < 0.3)
    assert asked("constant_input", (blank, y)).level == "warning"
    bordered = torch.nn.functional.pad(x, (3, 3, 3, 3))
    assert asked("constant_input", (bordered, y)).level == "info"


def test_targets_that_are_all_the_same() -> None:
    x, y = numbers()
    finding = asked("label_histogram", (x, torch.zeros(900)))
    assert finding.level == "error" and "every target of train is 0" in finding.message
    assert asked("label_histogram", (x, y)).level == "ok"


def test_classes_that_only_val_has() -> None:
    x, y = clouds()
    order = y.argsort(stable=True)
    finding = asked("label_histogram", (x[order], y[order]))
    assert finding.level == "error" and "of classes that train has not: [3]" in finding.message and "sorted" in finding.cause
    rare = torch.where(torch.arange(900) % 300 == 0, torch.full_like(y, 4), y)
    assert asked("label_histogram", (x, rare)).level in ("ok", "info")


def test_binary_targets_of_another_coding() -> None:
    x, y = clouds()
    finding = asked("label_histogram", (x, (y % 2).float() * 255), "task.kind=binary", "loss=bce")
    assert finding.level == "error" and "falls without end" in finding.message
    plug("loss", "logistic", lambda out, y: nn.functional.softplus(-out * y).mean())
    assert asked("label_histogram", (x, (y % 2).float() * 2 - 1), "task.kind=binary", "loss=logistic").level == "ok"


def test_a_label_column_among_the_features() -> None:
    x, y = clouds()
    finding = asked("target_in_input", (torch.cat([x, y[:, None].float()], 1), y))
    assert finding.level == "warning" and "x[8] is the target itself" in finding.message
    coded = torch.cat([x, nn.functional.one_hot(y, 4).float()], 1)
    assert asked("target_in_input", (coded, y)).numbers["copies"] == ["x[8]", "x[9]", "x[10]", "x[11]"]
    assert asked("target_in_input", (x, y)).level == "ok"
    x, y = numbers()
    assert asked("target_in_input", (torch.cat([x, 3 * y[:, None] - 1], 1), y)).level == "warning"
    assert asked("target_in_input", (x, 2 * x[:, 0])).level == "info"  # made up so: the others tell nothing of it
    assert asked("target_in_input", (x, (x[:, 0] > 0).long())).level == "ok"


TOKENS = torch.randint(0, 20, (300, 20), generator=draw())
SPEC = DataSpec(kind="language_model", vocab=20)


class Embeds(nn.Module):
    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(vocab, 16), nn.Linear(16, vocab)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))  # type: ignore[no-any-return]


def spoken(name: str, x: Tensor, y: Tensor, *words: str) -> Any:
    plug("model", "embeds", Embeds)
    pairs = [(x[low:high], y[low:high]) for low, high in ((0, 200), (200, 250), (250, 300))]
    return asked(name, lambda: Splits(*pairs, spec=SPEC), "model=embeds", *words)


def test_targets_that_are_not_the_next_token() -> None:
    x, following = TOKENS[:, 2:-2], TOKENS[:, 3:-1]
    assert spoken("target_in_input", x, following).level == "ok"
    same = spoken("target_in_input", x, x)
    assert same.level == "error" and "not shifted" in same.cause
    assert "wrong way" in spoken("target_in_input", x, TOKENS[:, 1:-3]).cause
    assert spoken("target_in_input", x, TOKENS[:, 4:]).level == "warning"

    def shifts(out: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), y[:, 1:].flatten())

    plug("loss", "shifts", shifts)
    assert spoken("target_in_input", x, x, "loss=shifts").level == "ok"


def test_padding_that_counts() -> None:
    x, y = TOKENS[:, :-1].clone(), TOKENS[:, 1:].clone()
    filler = torch.arange(19)[None] >= torch.randint(3, 15, (300, 1), generator=draw())
    x[filler], y[filler] = 0, 0
    finding = spoken("padding_share", x, y)
    assert finding.level == "warning" and finding.numbers["counted_filler"] > 0
    left_out = spoken("padding_share", x, y.masked_fill(filler, -100))
    assert left_out.level == "ok" and left_out.numbers["counted_filler"] == 0
    assert spoken("padding_share", TOKENS[:, :-1], TOKENS[:, 1:]).level == "ok"


def test_a_slice_left_in() -> None:
    x, y = clouds()

    def slice_(cut: Any) -> None:
        cut["train"] = [part[:37] for part in cut["train"]]

    def few_shot(cut: Any) -> None:
        rows = torch.cat([(cut["train"][1] == k).nonzero()[:, 0][:5] for k in range(4)])
        cut["train"] = [part[rows] for part in cut["train"]]

    assert asked("example_count", (x, y), spoil=slice_).level == "warning"
    assert asked("example_count", (x, y), spoil=few_shot).level == "info"
    assert asked("example_count", (x, y)).level == "ok"


def test_the_report_has_the_numbers() -> None:
    facts = asked("batch_report", clouds()).numbers
    assert facts["x"]["shape"] == [64, 8] and facts["y"]["dtype"] == "int64" and facts["y"]["max"] == 3
