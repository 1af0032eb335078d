"""A text file of the user's as bytes, characters, words or byte pairs, for language models: predict each token from those before it.

Source: A. Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015 (char-rnn); tokens: see `dlrun/functional/tokens.py`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from dlrun.datasets._text import Shape, splits_of
from dlrun.errors import MissingError
from dlrun.functional.tokens import UNKNOWN
from dlrun.ranges import Count, Fraction
from dlrun.types import Splits

__all__ = ["UNKNOWN", "text_file"]

MOST_BYTES = 2**30


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
    shape = Shape(tokenizer, vocab, context, stride, val, test)
    return splits_of([_read(path)], shape, f"dataset.path={path}", str(path))
