"""N-grams of held-out text, transformers read without their layers, and the text they are tried on: by hand and against known entropies."""

from __future__ import annotations

import math
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parts import options
from probed import data, loaded, probe
from torch import Tensor

from dlrun.datasets.grammar import chain, grammar
from dlrun.datasets.python_sources import python_sources
from dlrun.datasets.text_file import text_file
from dlrun.errors import MissingError
from dlrun.functional.markov import conditional_entropies
from dlrun.functional.ngrams import held_out
from dlrun.functional.tokens import spell
from dlrun.types import Splits

MODEL = ("task=language_model", "model=transformer", "model.width=8", "model.heads=2", "model.positions=none")


def rows(*texts: str) -> tuple[Any, Any]:
    """x, y of texts of equal length over a, b, c."""
    numbers = np.array([["abc".index(letter) for letter in text] for text in texts])
    return numbers[:, :-1], numbers[:, 1:]


def test_ngrams_of_a_tiny_text_by_hand() -> None:
    """Train aab, abb: y are a b, b b. p_1 = (N + 2 / 3) / (4 + 2) for two kinds: a 5/18, b 11/18, c 1/9."""
    a, b, c = 5 / 18, 11 / 18, 1 / 9
    found = held_out(rows("aab", "abb"), rows("aba", "cab"), 3, 3)  # y are b a, a b
    assert found[0] == pytest.approx(-math.log(b * a * a * b) / 4)
    # after a: a b b, two kinds of three; after b: b, one kind of one; c was never seen
    b_a, a_b = (2 + 2 * b) / 5, (0 + 1 * a) / 2
    assert found[1] == pytest.approx(-math.log(b_a * a_b * a * b_a) / 4)
    # aa b, ab b; ba, ca were never contexts
    assert found[2] == pytest.approx(-math.log(b_a * ((0 + a_b) / 2) * a * b_a) / 4)
    assert a + b + c == pytest.approx(1)


def test_every_table_is_a_distribution() -> None:
    draw = np.random.default_rng(0)
    train = rows(*("".join(draw.choice(list("abc"), 7, p=[0.6, 0.3, 0.1])) for _ in range(9)))
    x = draw.integers(0, 3, (1, 6))
    for order in (1, 2, 3, 4):
        total = 0.0
        for token in range(3):
            y = np.full((1, 6), -100)
            y[0, 5] = token
            total += math.exp(-held_out(train, (x, y), order, 3)[-1])
        assert total == pytest.approx(1)


def test_on_much_text_they_come_to_the_languages_own_entropies() -> None:
    made, table = grammar(**options("dataset", "grammar", vocab=6, branching=3)), chain(2, 6, 3, 0)
    train, test = ((rows["x"].numpy(), rows["y"].numpy()) for rows in (made.train, made.test))  # type: ignore[union-attr,index]
    assert held_out(train, test, 2, 6) == pytest.approx(conditional_entropies(table, 2), abs=0.01)


def text_run(monkeypatch: pytest.MonkeyPatch, train: Tensor, test: Tensor, *words: str) -> Any:
    """An untrained transformer on rows of tokens 0..3."""
    splits: Any = [(each[:, :-1], each[:, 1:]) for each in (train, test)]
    named = data(monkeypatch, "letters", *splits, in_shape=(4,), out_shape=(4, 4), kind="language_model", vocab=4)
    return loaded(named, *MODEL, *words)


def test_the_probe_counts_train_and_reads_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    train, test = torch.randint(0, 4, (50, 5), generator=draw), torch.randint(0, 3, (20, 5), generator=draw)
    found = probe("ngram_entropy", text_run(monkeypatch, train, test, "model.depth=1"), most=3)
    pairs = [(each[:, :-1].numpy(), each[:, 1:].numpy()) for each in (train, test)]
    assert [found[f"cross_entropy_{n}"] for n in (1, 2, 3)] == pytest.approx(held_out(pairs[0], pairs[1], 3, 4))
    assert found["tokens"] == 80 and found["best"] == min(found[f"cross_entropy_{n}"] for n in (1, 2, 3))
    with pytest.raises(ValueError, match="no token|tokens of a vocabulary"):
        probe("ngram_entropy", loaded("dataset=digits", "model=mlp"))


@torch.no_grad()
def set_tables(run: Any, embedding: Tensor, unembedding: Tensor) -> None:
    """Orthogonal directions a token, so that the norm between the tables keeps which one is largest."""
    run.model.tokens.weight.zero_()
    run.model.tokens.weight[:, :4] = embedding
    run.model.readout.weight.zero_()
    run.model.readout.weight[:, :4] = unembedding
    run.model.readout.bias.zero_()


@pytest.mark.parametrize("depth", [0, 2])
def test_skipped_layers_of_tables_made_by_hand(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    """Train: after 0 comes 1 (twice) or 2, after 1 comes 1, after 2 comes 0; 3 never goes on. Blocks, random as drawn, have no say."""
    train = torch.tensor([[0, 1, 1, 1, 1], [2, 0, 1, 1, 1], [2, 0, 2, 0, 1]])
    test = torch.tensor([[0, 0, 0, 1, 9], [2, 3, 1, 1, 9]]).clamp(max=3)
    run = text_run(monkeypatch, train, test, f"model.depth={depth}")
    eye = torch.eye(4)
    set_tables(run, eye, eye)
    told = {"told_apart": pytest.approx(4 / 8)}  # three 0 and the 2: 1 follows itself, 3 has no successor
    assert probe("skip_layers", run, rows=None) == {"itself": 1.0, "successor": 0.0, "other": 0.0, **told}
    set_tables(run, eye, eye[[2, 0, 1, 3]])  # logits of a token are largest at: 0 -> 1, 1 -> 2, 2 -> 0
    assert probe("skip_layers", run, rows=None) == {"itself": 0.0, "successor": 1.0, "other": 0.0, **told}
    set_tables(run, eye[[0, 1, 3, 2]], eye[[2, 0, 1, 3]])  # and now 2 -> 3, another
    assert probe("skip_layers", run, rows=None) == {"itself": 0.0, "successor": 3 / 4, "other": 1 / 4, **told}


def test_without_two_answers_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    same = torch.zeros(3, 5, dtype=torch.long)
    with pytest.raises(ValueError, match="nothing to tell apart"):
        probe("skip_layers", text_run(monkeypatch, same, same, "model.depth=1"))


# the text


def sources(**changed: Any) -> Splits:
    return python_sources(**options("dataset", "python_sources", **{"modules": ["this", "stat"], "context": 16, **changed}))


def test_each_module_is_cut_for_itself_and_rows_are_the_text() -> None:
    made = sources(tokenizer="bytes")
    assert made.spec is not None
    texts = [Path(sysconfig.get_path("stdlib"), f"{name}.py").read_text("utf-8") for name in ("this", "stat")]
    train, val, test = (
        "".join(text[round(len(text) * low) : round(len(text) * high)] for text in texts) for low, high in ((0, 0.8), (0.8, 0.9), (0.9, 1))
    )
    for rows, text in ((made.train, train), (made.val, val), (made.test, test)):
        x, y = rows["x"], rows["y"]  # type: ignore[index]
        assert spell(made.spec.tokens, x.flatten().tolist()) == text[: x.numel()] and len(x) == (len(text) - 1) // 16
        assert torch.equal(x[:, 1:], y[:, :-1]) and torch.equal(x[1:, 0], y[:-1, -1])
    assert "each of 2 files" in made.spec.split_rule and "sources of Python 3." in made.spec.source


def test_the_same_text_as_a_file_gives_the_same_rows(tmp_path: Path) -> None:
    text = Path(sysconfig.get_path("stdlib"), "stat.py").read_text("utf-8")
    (tmp_path / "stat.txt").write_text(text, encoding="utf-8")
    for stride in (None, 5):
        one = sources(modules=["stat"], stride=stride)
        other = text_file(**options("dataset", "text_file", path=tmp_path / "stat.txt", context=16, stride=stride))
        for mine, theirs in ((one.train, other.train), (one.test, other.test)):
            lazy = theirs.take(torch.arange(len(theirs)))  # type: ignore[union-attr]
            assert torch.equal(mine["x"], lazy["x"]) and torch.equal(mine["y"], lazy["y"])  # type: ignore[index]


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"modules": []}, "at least one module"),
        ({"modules": ["stat", "stat"]}, "none twice"),
        ({"modules": ["torch"]}, "expected modules of Python's standard library"),
        ({"modules": ["os./etc/passwd"]}, "expected modules of Python's standard library"),
        ({"modules": ["os...x"]}, "expected modules of Python's standard library"),
        ({"context": 10_000}, "share of dataset.modules has"),
    ],
)
def test_what_is_no_module_is_named(changed: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        sources(**changed)


def test_a_module_without_source_is_said() -> None:
    assert "itertools" in sys.stdlib_module_names
    with pytest.raises(MissingError, match="has no source of itertools here"):
        sources(modules=["itertools"])
    assert sources(modules=["json"]).spec is not None  # a package: its __init__


# what is written


def test_the_share_of_known_words_of_a_network_that_writes_a_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters a b c and a space; after a comes b, after b c, after c the space, after the space a: it writes `abc abc`."""
    rows = torch.tensor([[3, 0, 1, 2, 3]] * 4)  # " abc "
    other = torch.tensor([[3, 0, 1, 2, 3], [3, 2, 1, 0, 3]])  # " abc ", " cba "
    splits: Any = [(each[:, :-1], each[:, 1:]) for each in (rows, other)]
    facts: dict[str, Any] = {"in_shape": (4,), "out_shape": (4, 4), "kind": "language_model", "vocab": 4, "tokens": ("a", "b", "c", " ")}
    run = loaded(data(monkeypatch, "letters", *splits, **facts), *MODEL, "model.depth=0")
    set_tables(run, torch.eye(4), 50 * torch.eye(4)[[3, 0, 1, 2]])
    found = probe("writes", run, rows=2, length=14)
    # after " abc" comes " abc abc abc a": three whole words; after " cba" it goes on with "bc abc abc abc": "bc" and the end are cut
    assert found["known"] == 0.0 and found["words"] == 5 and math.isnan(found["own"])  # no row of four tokens holds a whole word
    wide = [(each, each.roll(-1, 1)) for each in (rows, other)]
    run = loaded(data(monkeypatch, "wide", *wide, **{**facts, "in_shape": (5,), "out_shape": (5, 4)}), *MODEL, "model.depth=0")  # type: ignore[arg-type]
    set_tables(run, torch.eye(4), 50 * torch.eye(4)[[3, 0, 1, 2]])
    assert probe("writes", run, rows=2, length=14) == {"known": 1.0, "words": 4, "own": 0.5}  # twice "abc abc abc ab"
    set_tables(run, torch.eye(4), 50 * torch.eye(4)[[1, 2, 3, 0]])  # backwards: "cba cba", which train has not
    assert probe("writes", run, rows=2, length=14, temperature=0)["known"] == 0.0
