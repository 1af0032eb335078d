"""What costs nothing to reach, beside every result: against closed forms, and where it must not be given."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from checks_found import CLOUDS, built, parts, plug  # noqa: F401 (parts is a fixture)
from sklearn.linear_model import Ridge

from dlrun import Splits
from dlrun.baselines import RIDGE, baselines, beaten, bigram, linear
from dlrun.batch import Batch
from dlrun.cli import main


def skewed() -> Splits:
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    y = torch.tensor(([0] * 6 + [1] * 3 + [2]) * 40)
    return Splits((x, y), (x, y.roll(1)), (x, y.flip(0)))


def test_the_commonest_class_and_the_prior() -> None:
    plug("dataset", "skewed", skewed)
    values = baselines(built("dataset=skewed", "task=supervised")).values
    entropy = -(0.6 * math.log(0.6) + 0.3 * math.log(0.3) + 0.1 * math.log(0.1))
    assert values["val/majority_accuracy"] == pytest.approx(0.6) == values["test/majority_accuracy"]
    assert values["val/prior_loss"] == pytest.approx(entropy, rel=1e-5)


def test_the_mean_of_numbers_is_that_of_train_in_the_metric_s_own_unit() -> None:
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    y = 100 + 3 * x[:, 0] - x[:, 1]
    plug("dataset", "plane", lambda: Splits((x, y), (x, y + 1)))
    found = baselines(built("dataset=plane", "task=supervised"))
    assert found.values["val/mean_mae"] == pytest.approx(float((y + 1 - y.mean()).abs().mean()), rel=1e-4)
    assert found.values["val/linear_mae"] == pytest.approx(1.0, abs=0.05) and found.skipped == ""


@pytest.mark.parametrize("rows", [200, 20], ids=["more rows", "more features"])
def test_the_linear_model_is_ridge_regression(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(rows, 30, generator=generator) * 4 + 2, torch.randn(rows, 2, generator=generator)
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    expected = Ridge(alpha=RIDGE * rows).fit(standard.numpy(), y.numpy()).predict(standard.numpy())
    assert torch.allclose(linear(x, y)(Batch({"x": x})), torch.from_numpy(expected), atol=2e-4)


def test_pairs_of_tokens_are_counted() -> None:
    x = torch.tensor([[0, 1, 0, 1, 0, 2]])
    y = torch.tensor([[1, 0, 1, 0, 2, -100]])
    table = bigram(x, y, 3)(Batch({"x": torch.tensor([[0, 1]])})).exp()
    assert torch.allclose(table.sum(-1), torch.ones(1, 2), atol=1e-6)
    share = torch.tensor([3.0, 3.0, 2.0]) / 8  # of 1 -> 0 twice, 0 -> 1 twice, 0 -> 2 once, each once more
    assert torch.allclose(table[0, 0], (torch.tensor([0.0, 2.0, 1.0]) + share) / 4, atol=1e-6)


def test_text_has_unigrams_and_bigrams(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ab" * 3000)
    words = ("dataset=text_file", f"dataset.path={text}", "dataset.context=8", "task=language_model", "model=transformer")
    found = baselines(built(*words, "model.width=16", "model.depth=1", "model.heads=2")).values
    assert found["val/unigram_loss"] == pytest.approx(math.log(2), abs=0.01) and found["val/bigram_loss"] < 0.01


@pytest.mark.parametrize("words", [("dataset=ring", "task=gan"), ("task=autoencoder",), ("dataset=only_x", "task=supervised",
    "task.kind=vae", "model=autoencoder", "loss=evidence")])  # fmt: skip
def test_none_where_none_is_known(words: tuple[str, ...]) -> None:
    found = baselines(built(*words))
    assert found.values == {} and "none is known for task" in found.skipped


class Items(torch.utils.data.Dataset[Any]):
    reads = 0

    def __len__(self) -> int:
        return 300

    def __getitem__(self, row: int) -> Any:
        Items.reads += 1
        return torch.full((3,), float(row)), row % 3


def test_items_are_not_read_again_for_them() -> None:
    plug("dataset", "items", lambda: Splits(Items(), Items()))
    run = built("dataset=items", "task=supervised", "loss=cross_entropy")
    Items.reads = 0
    assert "read one by one" in baselines(run).skipped and Items.reads == 0


def test_what_is_not_better_is_said() -> None:
    run = built(*CLOUDS)
    values = {"val/majority_accuracy": 0.25, "val/linear_accuracy": 0.9, "test/majority_accuracy": 0.25}
    assert beaten(run, {"val/accuracy": 0.91, "test/accuracy": 0.26}, values) == []
    lines = beaten(run, {"val/accuracy": 0.9, "test/accuracy": 0.2}, values)
    assert lines[0] == "val accuracy 0.9 is not better than a linear model (0.9)" and "commonest class (0.25)" in lines[1]


def test_they_stand_beside_the_result_of_train_and_eval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, summary, _ = runs.start(tmp_path, "dataset=moons", "train.steps=3", "train.eval_every=0")
    assert summary["baselines"]["test/linear_accuracy"] > 0.8 and summary["baselines"]["test/majority_accuracy"] == 0.5
    capsys.readouterr()
    assert main(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baselines"]["test/linear_accuracy"] == summary["baselines"]["test/linear_accuracy"]
    assert main(["eval", str(run), "--split", "val"]) == 0
    assert "baselines: val majority accuracy 0.5" in capsys.readouterr().out
