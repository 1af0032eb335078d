"""Val in another form than train: scaled alone, its codes numbered anew, its columns in another order; and splits that only look so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import asked, draw
from checks_found import judged, parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor, nn

from dlrun import DataSpec, Splits

CITIES = 30


def ranged(x: Tensor) -> Tensor:
    return (x - x.amin(0)) / (x.amax(0) - x.amin(0))


SCALERS = {"range": ranged, "moments": lambda x: (x - x.mean(0)) / x.std(0)}


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("split", ["train", "val"])
def test_one_split_scaled_alone_without_labels(scaler: str, split: str) -> None:
    pair = [5 + 6 * torch.randn(rows, 3, generator=draw(rows)) for rows in (3000, 500)]
    place = int(split == "val")
    pair[place] = SCALERS[scaler](pair[place])
    spec = DataSpec((3,), (3,), "gan")

    def asked_of(one: Tensor, two: Tensor) -> Any:
        plug("dataset", "mine", lambda: Splits({"x": one}, {"x": two}, spec=spec))
        return judged("split_input_shift", "dataset=mine", "task=gan")

    finding = asked_of(*pair)
    assert finding.level == "warning" and f"{split} was scaled" in finding.cause
    both = [SCALERS[scaler](part) for part in pair]
    assert asked_of(*both).level in ("ok", "info")
    assert asked_of(ranged(pair[0]), 0.4 + 0.5 * ranged(pair[1])).level in ("ok", "info")  # later rows in a smaller range


def test_a_series_that_is_standardised_in_train_alone() -> None:
    time = torch.arange(2100.0)
    series = torch.sin(time / 4) + torch.sin(time / 11) + 0.2 * torch.randn(2100, generator=draw(1))
    spec = DataSpec((12, 1), (), "sequence")

    def cut(later: Any) -> Any:
        pairs = [part.unfold(0, 13, 1) for part in (series[:1500], later(series[1500:]))]
        return lambda: Splits(*((part[:, :12, None], part[:, 12]) for part in pairs), spec=spec)

    assert asked("split_input_shift", cut(lambda part: 40 + 8 * part), "loss=mse").level == "warning"
    assert asked("split_input_shift", cut(lambda part: part + torch.linspace(0, 3, len(part))), "loss=mse").level in ("ok", "info")


def test_columns_of_inputs_in_another_order_in_val() -> None:
    x = torch.randn(900, 5, generator=draw(1)) * torch.tensor([1, 2, 3, 4, 5]) + torch.arange(5) * 3
    y = (x[:, 0] - (x[:, 4] - 12) / 5 > 0).long()

    def swap(cut: Any) -> None:
        cut["val"][0] = cut["val"][0][:, [4, 0, 1, 2, 3]]

    finding = asked("split_input_shift", (x, y), spoil=swap)
    assert finding.level == "warning" and "with its columns in another order" in finding.message, finding.numbers
    assert asked("split_input_shift", (x, y)).level == "ok"


class embeds(nn.Module):
    def __init__(self, in_shape: Any, out_shape: Any) -> None:
        super().__init__()
        self.city, self.head = nn.Embedding(CITIES, 4), nn.Linear(7, 2)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.head(torch.cat((self.city(x["city"]), x["rest"]), 1))
        return out


def met(code: Tensor) -> Tensor:
    seen = list(dict.fromkeys(code.tolist()))
    return torch.tensor([seen.index(one) for one in code.tolist()])


def dense(code: Tensor) -> Tensor:
    return torch.unique(code, return_inverse=True)[1]


@pytest.mark.parametrize("encoder", ["once", "met", "dense"])
def test_categories_encoded_anew_in_each_split(encoder: str) -> None:
    weight = 2 * torch.randn(CITIES, generator=draw(7))

    def split(rows: int, seed: int) -> dict[str, Any]:
        code = torch.multinomial(1 / torch.arange(1, CITIES + 1.0), rows, replacement=True, generator=draw(seed))
        if encoder == "dense":  # val has not all of the categories that train has
            code = code if seed == 1 else torch.where(code % 5 == 0, code + 1, code)
        rest = torch.randn(rows, 3, generator=draw(seed + 1))
        y = (weight[code] + rest[:, 0] + torch.randn(rows, generator=draw(seed + 2)) > 0).long()
        code = {"once": lambda c: c, "met": met, "dense": dense}[encoder](code)
        return {"x": {"city": code, "rest": rest}, "y": y}

    plug("dataset", "customers", lambda: Splits(split(1200, 1), split(500, 5)))
    plug("model", "embeds", embeds)
    finding = judged("split_input_shift", "dataset=customers", "task=supervised", "task.kind=classification", "model=embeds")
    wrong = encoder != "once"
    assert (finding.level == "warning") == wrong and ("numbered anew" in finding.cause) == wrong, finding
