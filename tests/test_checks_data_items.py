"""Datasets read item by item, samplers and augmentations: what changes that should not, and what does not that should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks_data import Splits, asked, clouds, draw, smooth
from checks_found import parts, plug  # noqa: F401 (parts is a fixture)
from torch import Tensor


class Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, x: Tensor, y: Tensor, change: Any) -> None:
        self.x, self.y, self.change = x.clone(), y, change

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.change(self.x[index], index), self.y[index]


def same(x: Tensor, index: int) -> Tensor:
    return x


def noisy(x: Tensor, index: int) -> Tensor:
    return x + 0.2 * torch.randn_like(x)


def own() -> Any:
    generator = torch.Generator().manual_seed(0)
    return lambda x, index: x + 0.2 * torch.randn(x.shape, generator=generator)


def seeded(x: Tensor, index: int) -> Tensor:
    torch.manual_seed(0)
    return x + 0.5 * torch.randn_like(x)


def by_index(x: Tensor, index: int) -> Tensor:
    torch.manual_seed(index)
    return x + 0.2 * torch.randn_like(x)


def read(name: str, train: Any = same, val: Any = same, *words: str) -> Any:
    x, y = clouds()
    return asked(name, lambda: Splits(Rows(x[:300], y[:300], train), Rows(x[300:400], y[300:400], val)), *words)


IN_PLACE = {
    "scale": lambda x, index: x.sub_(0.5).div_(0.5),
    "move": lambda x, index: x.sub_(0.1),
    "come_to_rest": lambda x, index: x.div_(64).sub_(2),
    "noise": lambda x, index: x.add_(0.1 * torch.randn_like(x)),
    "flip": lambda x, index: x.copy_(x.flip(0)),
}


@pytest.mark.parametrize("case", IN_PLACE)
def test_transforms_in_place(case: str) -> None:
    finding = read("item_stability", IN_PLACE[case])
    assert finding.level == "error" and "reading items of train changes them" in finding.message


def test_val_that_is_augmented() -> None:
    for change in (noisy, own()):
        finding = read("item_stability", same, change)
        assert finding.level == "warning" and "items of val differ" in finding.message
    assert read("item_stability", noisy, same).level == "ok"
    assert read("item_stability", own(), same).level == "info"
    assert read("item_stability", same, by_index).level == "ok"
    assert read("item_stability", same, noisy, "expects.stochastic_data=true").level == "info"
    x, y = clouds()
    assert asked("item_stability", lambda: Splits(Rows(x, y, noisy))).level == "info"  # val is cut from it
    assert asked("item_stability", (x, y)).level == "ok"


def test_items_that_set_a_seed() -> None:
    finding = read("augmentation_alive", seeded)
    assert finding.level == "warning" and "torch's generator" in finding.message
    assert read("augmentation_alive", by_index).level == "not_applicable"


def once(x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=draw())


AUGMENTS = {
    "nothing": (lambda batch: batch, "unchanged"),
    "frozen": (lambda batch: batch.replace(x=batch["x"] + 0.3 * once(batch["x"])), "the same at all"),
    "shared": (lambda batch: batch.replace(x=batch["x"] + 0.3 * torch.randn(batch["x"].shape[1:])), "the same noise"),
}


@pytest.mark.parametrize("case", AUGMENTS)
def test_augmentations_that_do_nothing(case: str) -> None:
    change, words = AUGMENTS[case]
    plug("augment", "odd", change)
    finding = asked("augmentation_alive", clouds(), "+augment@augment.odd=odd")
    assert finding.level == "warning" and words in finding.message


GOOD = {
    "noise": lambda batch: batch.replace(x=batch["x"] + 0.1 * torch.randn_like(batch["x"])),
    "brightness": lambda batch: batch.replace(x=batch["x"] + torch.randn(1)),
    "turned": lambda batch: batch.replace(
        x=torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch["x"].flip(-1), batch["x"]).roll(int(torch.randint(5, (1,))), -1)
    ),
}


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.parametrize("name", ["augmentation_alive", "augmentation_keeps_label"])
def test_augmentations_that_work(case: str, name: str) -> None:
    plug("augment", "good", GOOD[case])
    assert asked(name, smooth(), "+augment@augment.good=good").level == "ok"


def test_augmentations_that_destroy_the_label() -> None:
    plug("augment", "drown", lambda batch: batch.replace(x=batch["x"] + 50 * torch.randn_like(batch["x"])))
    assert asked("augmentation_keeps_label", clouds(), "+augment@augment.drown=drown").level == "warning"
    plug("augment", "mix", lambda batch: batch.replace(x=batch["x"][torch.randperm(len(batch))]))
    finding = asked("augmentation_keeps_label", clouds(), "+augment@augment.mix=mix")
    assert finding.level == "error" and "come out as other rows" in finding.message


def half(dim: int) -> Any:
    return lambda x, index: x.flip(dim) if torch.rand(()) < 0.5 else x


def sides() -> tuple[Tensor, Tensor]:
    """Pictures [900, 1, 10, 10] that are bright on the left, on the right or in the middle."""
    y = torch.arange(900) % 3
    x = 0.5 * torch.randn(900, 1, 10, 10, generator=draw(2))
    x[y == 0, :, :, :4] += 1
    x[y == 1, :, :, 6:] += 1
    x[y == 2, :, :, 4:6] += 1
    return x, y


TURNS = {
    "mirrored": (half(-1), "warning"),
    "upside_down": (half(-2), "ok"),
    "noisy": (lambda x, index: x + 2 * torch.randn_like(x), "ok"),
    "erased": (lambda x, index: x * (torch.rand_like(x) > 0.7), "ok"),
}


@pytest.mark.parametrize("case", TURNS)
def test_an_augmentation_that_exchanges_two_classes(case: str) -> None:
    change, level = TURNS[case]
    x, y = sides()
    finding = asked("augmentation_keeps_label", lambda: Splits(Rows(x[:600], y[:600], change), (x[600:], y[600:]), (x[600:], y[600:])))
    assert finding.level == level and (level == "ok" or "exchanges classes 0 and 1" in finding.message), finding
    plug("augment", "turn", lambda batch: batch.replace(x=torch.stack([change(row, 0) for row in batch["x"]])))
    finding = asked("augmentation_keeps_label", sides(), "+augment@augment.turn=turn")
    assert finding.level == level and (level == "ok" or "exchanges classes 0 and 1" in finding.message), finding


def test_items_that_are_turned_until_nothing_tells_their_class() -> None:
    y = torch.arange(900) % 4
    x = 0.4 * torch.randn(900, 1, 10, 10, generator=draw(2))
    for side in range(4):
        x[y == side] += torch.rot90((torch.arange(100) < 30).float().reshape(10, 10), side)
    rest = ((x[600:], y[600:]), (x[600:], y[600:]))
    around = Rows(x[:600], y[:600], lambda x, index: torch.rot90(x, int(torch.randint(4, ())), (1, 2)))
    finding = asked("augmentation_keeps_label", lambda: Splits(around, *rest))
    assert finding.level == "warning" and "turned by half, which exchanges classes 0 and 2" in finding.message
    bent = Rows(x[:600], y[:600], lambda x, index: 0.2 * torch.rot90(x, int(torch.randint(4, ())), (1, 2)) + torch.randn_like(x))
    finding = asked("augmentation_keeps_label", lambda: Splits(bent, *rest))  # no read is another one, turned
    assert finding.level == "warning" and "rows of val tell the label with strength" in finding.message
    loud = Rows(x[:600], y[:600], lambda x, index: x + 2 * torch.randn_like(x))
    assert asked("augmentation_keeps_label", lambda: Splits(loud, *rest)).level == "ok"


class Drawn(torch.utils.data.Sampler[int]):
    def __init__(self, draw_rows: Any) -> None:
        self.draw_rows = draw_rows

    def __iter__(self) -> Any:
        return iter(self.draw_rows())


SAMPLERS = {
    "half": (lambda: torch.randperm(300).tolist(), "warning"),
    "twice": (lambda: [i // 2 for i in range(600)], "warning"),
    "bootstrap": (lambda: torch.randint(0, 600, (600,)).tolist(), "info"),
    "in_order": (lambda: range(600), "info"),
    "permuted": (lambda: torch.randperm(600).tolist(), "ok"),
}


@pytest.mark.parametrize("case", SAMPLERS)
def test_samplers(case: str) -> None:
    rows, level = SAMPLERS[case]
    assert asked("loader_coverage", clouds(), sampler=Drawn(rows)).level == level


def test_torchs_subset_is_taken_at_its_word_and_sorted_rows_are_seen() -> None:
    each = torch.utils.data.WeightedRandomSampler([1.0] * 600, 600, generator=draw())
    assert asked("loader_coverage", clouds(), sampler=each).level == "info"
    classes = asked("loader_coverage", clouds(), sampler=torch.utils.data.WeightedRandomSampler([0.3, 0.7], 600, generator=draw()))
    assert classes.level == "error" and "2 weights for 600 rows" in classes.message
    assert asked("loader_coverage", clouds(), sampler=torch.utils.data.SubsetRandomSampler(range(100), generator=draw())).level == "info"

    def sort(cut: Any) -> None:
        order = cut["train"][1].argsort(stable=True)
        cut["train"] = [part[order] for part in cut["train"]]

    finding = asked("loader_coverage", clouds(), spoil=sort, sampler=Drawn(lambda: range(600)))
    assert finding.level == "warning" and "a batch holds 1." in finding.message
    assert asked("loader_coverage", clouds(), spoil=sort).level == "ok"
