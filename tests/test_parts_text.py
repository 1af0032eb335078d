"""Text as tokens and back, bits per byte, and what a language model shows of itself."""

from __future__ import annotations

import hashlib
import importlib
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import torch
from parts import ROOT, bound, options, task
from torch import nn

from dlrun.batch import Batch
from dlrun.config import compose
from dlrun.datasets.text_file import text_file
from dlrun.errors import MissingError
from dlrun.functional.sampling import continuation
from dlrun.functional.tokens import PIECE, UNKNOWN, WORD, fit, spell, words
from dlrun.train import build_run
from dlrun.types import DataSpec, Networks, Splits

TEXT = "It's a naïve café; it's 12.5 °C \u2014 d’été!\n\n\tHe said: \"no\u2026\"  \r\n☃ 😀 漢字 漢字 e\u0301\x00 the the the then there "
KINDS: list[Any] = ["bytes", "characters", "words", "bpe"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_comes_back_from_its_tokens(kind: Any) -> None:
    found = fit(kind, TEXT * 5, None)
    numbers = found.encode(TEXT)
    assert found.decode(numbers.tolist()) == TEXT
    assert 0 <= int(numbers.min()) and int(numbers.max()) < len(found.tokens) and not (found.has_unknown and (numbers == 0).any())
    assert sum(found.bytes_of([TEXT], [numbers])[i] for i in numbers.tolist()) == len(TEXT.encode())
    assert len(found.encode("")) == 0 and found.decode([]) == ""


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_bytes_and_byte_pairs_can_write_what_train_never_had(kind: Any) -> None:
    draw = random.Random(0)
    anything = "".join(chr(draw.choice([draw.randrange(1, 0x250), draw.randrange(0x4E00, 0x5000), 0x1F600])) for _ in range(3000))
    found = fit(kind, "the cat sat on the mat. " * 20, None)
    assert found.decode(found.encode(anything).tolist()) == anything and not found.has_unknown
    assert len(set(found.tokens)) == len(found.tokens)


def test_words_are_what_a_reader_takes_for_them_and_join_to_the_text() -> None:
    assert list(words("It's on, don't! \n  He said")) == ["It's", " on", ",", " don't", "!", " \n ", " He", " said"]
    draw = random.Random(1)
    for _ in range(200):
        text = "".join(draw.choice("ab ’'\n\t.-é☃1_") for _ in range(40))
        assert "".join(words(text)) == text and WORD.sub("", text) == ""


def test_a_smaller_vocabulary_keeps_the_most_frequent() -> None:
    found = fit("words", "b b b a a c c d", 3)
    assert found.tokens == (UNKNOWN, " a", " b") and found.encode("b b x a").tolist() == [0, 2, 0, 1]
    assert found.decode(found.encode("b b x a").tolist()) == f"{UNKNOWN} b{UNKNOWN} a"
    assert fit("characters", "aaabbc", 3).tokens == (UNKNOWN, "a", "b") and fit("characters", "aaabbc", None).tokens == (
        UNKNOWN,
        "a",
        "b",
        "c",
    )
    assert fit("characters", UNKNOWN, None).encode("ab").tolist() == [0, 0]


def test_merges_of_byte_pairs_by_hand() -> None:
    found = fit("bpe", "hug " * 10 + "pug " * 5 + "hugs " * 5, 259)
    assert found.tokens[256:] == ("ug", "hug", " hug")  # 20 times u g, then 15 times h ug against 14 with the space, then 14 times that
    assert len(found.encode("hug")) == 1 and len(found.tokens) == 259
    assert len(fit("bpe", "xyz", 1024).tokens) == 256  # nothing occurs twice
    long = "word " * PIECE  # more than one piece
    assert found.decode(found.encode(long).tolist()) == long


def test_the_same_text_gives_the_same_tokens_in_every_process() -> None:
    script = (
        "import hashlib; from dlrun.functional.tokens import fit; t = 'aaabbbccccdddd abab baba cdcd dcdc öö üü ' * 9\n"
        "found = [repr((fit(k, t, None).tokens, fit(k, t, None).encode(t).tolist())) for k in ('characters', 'words', 'bpe')]\n"
        "print(hashlib.sha256(repr(found).encode()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2", "3")
    ]
    assert len({run.stdout for run in runs}) == 1 and len(runs[0].stdout) == len(hashlib.sha256().hexdigest()) + 1


@pytest.mark.parametrize(
    ("kind", "vocab", "message"),
    [("bytes", 100, "has 256 tokens, always"), ("bpe", 256, "at least 257"), ("words", 1, "at least 2"), ("characters", 1, "at least 2")],
)
def test_a_vocabulary_that_cannot_be_is_said(kind: Any, vocab: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(kind, TEXT, vocab)


def test_without_the_library_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingError, match=r'pip install "dlrun\[text\]"'):
        fit("bpe", TEXT, None)


# a file


STORY = "the cat sat on the mat, the dog lay by the door. " * 30 + "ähnlich: eine Katze saß dort, ein Hund lag hier! " * 8


def file_of(path: Path, **changed: Any) -> Splits:
    path.write_text(STORY, encoding="utf-8")
    return text_file(**options("dataset", "text_file", **{"path": path, "context": 4, **changed}))


@pytest.mark.parametrize("kind", KINDS)
def test_the_vocabulary_is_trains_and_what_it_lacks_is_counted(kind: Any, tmp_path: Path) -> None:
    made = file_of(tmp_path / "a.txt", tokenizer=kind)
    spec = made.spec
    assert spec is not None and spec.vocab == len(spec.tokens) == len(spec.token_bytes) and spec.out_shape == (4, spec.vocab)
    train = STORY[: round(len(STORY) * 0.8)]
    numbers = made.train.tokens.tolist()
    assert spell(spec.tokens, numbers) == train and len(numbers) == len(fit(kind, train, None).encode(train))
    unknown = int((made.val.tokens == 0).sum()) if kind in ("characters", "words") else 0
    assert (f"'val': {unknown}" in spec.notes[0]) == (kind in ("characters", "words")) and (unknown > 0 or kind in ("bytes", "bpe"))
    if kind in ("bytes", "bpe"):
        assert "nothing is unknown" in spec.notes[0]
        whole = "".join(spell(spec.tokens, part.tokens.tolist()) for part in (made.train, made.val, made.test))
        assert whole == STORY
    held = STORY[len(train) :]
    sizes = torch.tensor(spec.token_bytes, dtype=torch.float64)
    assert float(sizes[torch.cat((made.val.tokens, made.test.tokens)).long()].sum()) == pytest.approx(len(held.encode()))


def test_advice_where_no_word_is_unknown_in_train(tmp_path: Path) -> None:
    assert "cannot learn to expect it" in file_of(tmp_path / "a.txt", tokenizer="words").spec.notes[0]  # type: ignore[union-attr]
    assert "cannot learn to expect it" not in file_of(tmp_path / "a.txt", tokenizer="words", vocab=9).spec.notes[0]  # type: ignore[union-attr]
    assert "3000 were asked for" in file_of(tmp_path / "a.txt", tokenizer="bpe", vocab=3000).spec.notes[0]  # type: ignore[union-attr]


# bits per byte


def bits(out: torch.Tensor, y: torch.Tensor, spec: DataSpec) -> float:
    value = bound("metric", "bits_per_byte")(out, y, spec=spec)
    return value.value()  # type: ignore[no-any-return]


def test_bits_per_byte_by_hand() -> None:
    spec = DataSpec(tokens=("a", "é", "☃", "ab"), token_bytes=(1.0, 2.0, 3.0, 2.0))
    out, y = torch.zeros(2, 3, 4), torch.tensor([[0, 1, 2], [3, 3, -100]])
    assert bits(out, y, spec) == pytest.approx(5 * 2 / (1 + 2 + 3 + 2 + 2))  # five tokens of two bits each
    one = bound("metric", "bits_per_byte")
    parts = one(out[:1], y[:1], spec=spec) + one(out[1:], y[1:], spec=spec)
    assert parts.value() == pytest.approx(1.0) and math.isnan(one(out[1:, 2:], y[1:, 2:], spec=spec).value())
    lost = DataSpec(tokens=(UNKNOWN, "a"), token_bytes=(2.5, 1.0))
    assert bits(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]), lost) == pytest.approx((1 + 1 + 8 * 2.5) / 3.5)
    with pytest.raises(ValueError, match="does not say how many"):
        bits(out, y, DataSpec(tokens=("a",)))
    with pytest.raises(ValueError, match=r"logits \[\.\.\., 4\]"):
        bits(out[..., :3], y, spec)


@pytest.mark.parametrize("kind", KINDS)
def test_guessing_at_random_costs_the_same_as_the_definition_says(kind: Any, tmp_path: Path) -> None:
    """nats a token / ln 2 / mean bytes a token of the very tokens that are predicted, multi-byte characters among them."""
    made = file_of(tmp_path / "a.txt", tokenizer=kind, val=0.02, test=0.1)
    assert made.spec is not None
    rows = made.train.take(torch.arange(len(made.train)))
    torch.manual_seed(0)
    out = torch.randn(*rows["y"].shape, made.spec.vocab or 0)
    nats = float(torch.nn.functional.cross_entropy(out.flatten(0, 1).double(), rows["y"].flatten()))
    per_token = (
        np.mean([len(spell(made.spec.tokens, row).encode()) for row in rows["y"].tolist()]) / 4 if kind in ("characters", "words") else None
    )
    sizes = [len(made.spec.tokens[i].encode("utf-8", "surrogateescape")) for i in rows["y"].flatten().tolist()]
    assert per_token is None or np.mean(sizes) == pytest.approx(per_token)
    assert max(sizes) > 1 or kind == "bytes"
    assert bits(out, rows["y"], made.spec) == pytest.approx(nats / math.log(2) / np.mean(sizes), rel=1e-5)
    assert "bits_per_byte" in task("language_model", DataSpec(in_shape=(4,), kind="language_model", vocab=3)).default_metrics(made.spec)


# what it shows


class Next(nn.Module):
    """Logits that say: after token i comes i + 1."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.vocab = vocab

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 50.0 * torch.nn.functional.one_hot((x + 1) % self.vocab, self.vocab)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_continuation_goes_on_token_by_token(temperature: float) -> None:
    prompt = torch.tensor([[0, 1, 2], [5, 3, 4]])
    assert continuation(Next(7), prompt, 5, temperature).tolist() == [[3, 4, 5, 6, 0], [5, 6, 0, 1, 2]]
    assert continuation(Next(7), prompt, 0, temperature).shape == (2, 0)
    total = lambda x: 50.0 * torch.nn.functional.one_hot(x.sum(1, keepdim=True).expand_as(x) % 7, 7)  # noqa: E731 (of all three tokens)
    assert continuation(total, prompt, 4, temperature).tolist() == [[3, 6, 4, 6], [5, 5, 0, 3]]


def test_draws_follow_the_distribution_at_the_temperature() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([1.0, 0.0, -1.0])
    for temperature in (1.0, 0.5):
        drawn = continuation(lambda x: logits.expand(*x.shape, 3), torch.zeros(20000, 1, dtype=torch.long), 1, temperature)
        share = torch.bincount(drawn[:, 0]) / 20000
        assert float((share - (logits / temperature).softmax(0)).abs().max()) < 0.015


def test_a_language_model_shows_how_it_goes_on() -> None:
    spec = DataSpec(in_shape=(3,), out_shape=(3, 4), kind="language_model", vocab=4, tokens=("a", "é", "\n", "☃"))
    made, nets = task("language_model", spec), Networks({"model": Next(4)})
    batch = Batch({"x": torch.tensor([[0, 1, 2], [3, 0, 1]]), "y": torch.zeros(2, 3, dtype=torch.long)})
    look = made.look(nets, batch)["continuation"]
    assert look.kind == "text" and look.data[0].endswith("aé↵") and "☃aé↵☃aé↵" in look.data[1] and "likeliest" in look.data[2]
    bare = task("language_model", DataSpec(in_shape=(3,), out_shape=(3, 4), kind="language_model", vocab=4))
    assert bare.look(nets, batch) == {}


SMALL = ("dataset=grammar", "task=language_model", "model.width=16", "model.depth=1", "model.heads=2", "train.steps=3", "train.log_every=1")


@pytest.mark.parametrize(("words", "again"), [((), False), (("loss.label_smoothing=0.1",), True), (("loss.weight=balanced",), True)])
def test_perplexity_is_taken_from_the_loss_where_that_is_its_logarithm(
    words: tuple[str, ...], again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build_run(compose([*runs.QUIET, *SMALL, "loss=cross_entropy", *words]))
    batch = run.data.head("train", 8)
    with torch.no_grad():
        outputs = run.task.outputs(run.nets, batch)  # type: ignore[attr-defined]
        plain = importlib.import_module("dlrun.metrics.perplexity").perplexity(outputs, batch["y"]).value()
        if not again:
            monkeypatch.setattr("dlrun.metrics.perplexity.F.cross_entropy", lambda *values, **named: pytest.fail("computed again"))
            monkeypatch.setattr(run.task, "criterion", lambda out, y: torch.tensor(math.log(plain)))
            monkeypatch.setattr("dlrun.tasks.language_model.is_plain", lambda criterion: True)
        assert ("perplexity" in run.task.measure(outputs, batch)) == again
        assert run.task.evaluate(run.nets, batch)["perplexity"].value() == pytest.approx(plain, rel=1e-5)


def test_perplexity_is_the_exponential_of_the_loss_over_micro_batches(tmp_path: Path) -> None:
    run, _, _ = runs.start(tmp_path, *SMALL, "train.batch_size=8", "train.accumulate=2")
    found = [(row[f"{s}/loss"], row[f"{s}/perplexity"]) for row in runs.rows(run) for s in ("train", "val", "test") if f"{s}/loss" in row]
    assert len(found) >= 5 and all(perplexity == pytest.approx(math.exp(loss), rel=1e-5) for loss, perplexity in found)
