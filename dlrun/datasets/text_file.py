"""A text file of the user's as bytes, characters, words or byte pairs, for language models: predict each token from those before it.

Source: A. Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015 (char-rnn); tokens: see `dlrun/functional/tokens.py`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from dlrun.errors import MissingError
from dlrun.functional.tokens import UNKNOWN, Numbers, Tokeniser, fit
from dlrun.ranges import Count, Fraction
from dlrun.types import DataSpec, Splits

__all__ = ["UNKNOWN", "Windows", "text_file"]

MOST_BYTES = 2**30
KEEP = "dataset.vocab=N below the number of tokens makes rare words unknown in train too"


class Windows:
    """Rows of `context` tokens and the tokens that follow each, cut from a stream of tokens when asked for.

    Row i starts at token i `stride`; the last row ends at or before the end of the stream. x and y are int64 [B, context].
    """

    def __init__(self, tokens: Tensor, context: int, stride: int) -> None:
        self.tokens, self.stride = tokens, stride
        self.span = torch.arange(context + 1)
        self.rows = (len(tokens) - context - 1) // stride + 1 if len(tokens) > context else 0

    def __len__(self) -> int:
        return self.rows

    def take(self, indices: Tensor) -> dict[str, Tensor]:
        """The windows `indices`."""
        window = self.tokens[indices[:, None] * self.stride + self.span].long()
        return {"x": window[:, :-1], "y": window[:, 1:]}


def _read(path: Path | None) -> str:
    if path is None:
        raise ValueError("dataset text_file needs a file to read: say dataset.path=FILE")
    file = Path(path).expanduser()
    try:
        if not file.is_file() and file.exists():
            raise MissingError(f"dataset.path={path} is no regular file: a pipe or a device may never end")
        with open(file, "rb") as content:
            text = content.read(MOST_BYTES + 1) if file.stat().st_size <= MOST_BYTES else b""
        if (not text and file.stat().st_size) or len(text) > MOST_BYTES:
            raise MissingError(f"dataset.path={path} has {file.stat().st_size} bytes: at most {MOST_BYTES} are read into memory")
        return io.TextIOWrapper(io.BytesIO(text), encoding="utf-8").read()
    except OSError as error:
        raise MissingError(f"dataset.path={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise MissingError(f"dataset.path={path} is no UTF-8 text (byte {error.start}): convert it first") from None


def _cut(text: str, val: float, test: float) -> dict[str, str]:
    """Train, val and test as consecutive parts of the text; an empty test is left out."""
    edges = [0, round(len(text) * (1 - val - test)), round(len(text) * (1 - test)), len(text)]
    cuts = {name: text[low:high] for name, low, high in zip(("train", "val", "test"), edges, edges[1:])}
    if not val > 0:
        raise ValueError("dataset.val is 0: expected a share above 0, a random cut of overlapping windows would leak train into val")
    return cuts if test > 0 else {name: cuts[name] for name in ("train", "val")}


def _vocabulary(found: Tokeniser, encoded: Mapping[str, Numbers], asked: int | None) -> str:
    """What the tokens are, and how often the unknown one stands for something."""
    size = len(found.tokens)
    if found.kind == "bpe":
        short = f"; train has no more pairs that occur twice, {asked} were asked for" if asked and size < asked else ""
        return f"data: {size} tokens: 256 bytes and {size - 256} pairs merged on train, nothing is unknown{short}"
    if not found.has_unknown:
        return f"data: {size} tokens: bytes, nothing is unknown"
    unknown = {name: int((numbers == 0).sum()) for name, numbers in encoded.items()}
    shares = ", ".join(f"{count / max(len(encoded[name]), 1):.2%}" for name, count in unknown.items())
    unheard = sum(unknown.values()) and not unknown["train"]
    advice = f"; train has none, so the network cannot learn to expect it: {KEEP}" if unheard and found.kind == "words" else ""
    return f"data: {size} tokens: {size - 1} {found.kind} of train and one for all others ({unknown} of them: {shares}){advice}"


def text_file(
    *,
    path: Path | None,
    tokenizer: Literal["bytes", "characters", "words", "bpe"],
    vocab: Count | None,
    context: Count,
    stride: Count | None,
    val: Fraction,
    test: Fraction,
) -> Splits:
    """x, y int64 [context]. The file's end is test, what comes before it val: shares of its characters, cut without overlap.

    Train windows start every `stride` tokens (null: every `context`, so that an epoch predicts each token once), val and test windows every
    `context`. The vocabulary is train's; what it lacks is token 0 for characters and words, while bytes and byte pairs can write anything.
    Raises ValueError for shares too small for a window and a vocabulary that cannot be, MissingError for a file that cannot be read.
    """
    cuts = _cut(_read(path), val, test)
    found = fit(tokenizer, cuts["train"], vocab)
    encoded = {name: found.encode(part) for name, part in cuts.items()}
    for name, numbers in encoded.items():
        if len(numbers) <= context:
            raise ValueError(
                f"the {name} share of dataset.path={path} has {len(numbers)} {_unit(tokenizer)}: expected more than context, {context}"
            )
    size = len(found.tokens)
    parts = ", ".join(f"{len(part)} characters" for part in cuts.values())
    per_token = ", ".join(f"{len(cuts[name].encode()) / len(numbers):.3f}" for name, numbers in encoded.items())
    spec = DataSpec(
        in_shape=(context,),
        out_shape=(context, size),
        kind="language_model",
        vocab=size,
        tokens=found.tokens,
        token_bytes=found.bytes_of(list(cuts.values()), list(encoded.values())),
        split_rule=f"train, val, test are consecutive parts of the file: {parts}",
        source=str(path),
        notes=(_vocabulary(found, encoded, vocab), f"data: bytes a token: {per_token} ({', '.join(cuts)})"),
    )
    strides = {name: (stride or context) if name == "train" else context for name in encoded}
    windows = {name: Windows(torch.from_numpy(numbers), context, strides[name]) for name, numbers in encoded.items()}
    return Splits(windows["train"], windows["val"], windows.get("test"), spec)


def _unit(tokenizer: str) -> str:
    return "characters" if tokenizer == "characters" else "tokens"
