"""Characters of a text file of the user's, for language models: predict each character from those before it.

Source: A. Karpathy, The Unreasonable Effectiveness of Recurrent Neural Networks, 2015 (char-rnn).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dlrun.errors import MissingError
from dlrun.ranges import Count, Fraction
from dlrun.types import DataSpec, Splits

MOST_BYTES = 2**30
UNKNOWN = "\ufffd"
"""Stands for every character that train does not have; always token 0, so that val and test cannot change the vocabulary."""


class Windows:
    """Rows of `context` characters and the characters that follow each, cut from a stream of tokens when asked for.

    Row i starts at character i `stride`; the last row ends at or before the end of the stream. x and y are int64 [B, context].
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
        if file.stat().st_size > MOST_BYTES:
            raise MissingError(f"dataset.path={path} has {file.stat().st_size} bytes: at most {MOST_BYTES} are read into memory")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingError(f"dataset.path={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise MissingError(f"dataset.path={path} is no UTF-8 text (byte {error.start}): convert it first") from None


def _tokens(text: str, vocabulary: str) -> Tensor:
    """Token numbers of `text`; 0 for what is not in `vocabulary`, which is sorted."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    known = np.frombuffer(vocabulary.encode("utf-32-le"), dtype=np.uint32)
    place = np.searchsorted(known, codes).clip(max=len(known) - 1)
    found = np.where(known[place] == codes, place + 1, 0)
    return torch.from_numpy(found.astype(np.uint8 if len(known) < 255 else np.int32))


def text_file(*, path: Path | None, context: Count, stride: Count | None, val: Fraction, test: Fraction) -> Splits:
    """x, y int64 [context]. The file's end is test, what comes before it val: shares of its characters, cut without overlap.

    Train windows start every `stride` characters (null: every `context`, so that an epoch predicts each character once), val and test
    windows every `context`. The vocabulary is train's characters in code order after token 0 for all others.
    """
    text = _read(path)
    edges = [0, round(len(text) * (1 - val - test)), round(len(text) * (1 - test)), len(text)]
    cuts = {name: text[low:high] for name, low, high in zip(("train", "val", "test"), edges, edges[1:])}
    wanted = ["train", *(name for name, share in (("val", val), ("test", test)) if share > 0)]
    for name in wanted:
        if len(cuts[name]) <= context:
            raise ValueError(
                f"the {name} share of dataset.path={path} has {len(cuts[name])} characters: expected more than context, {context}"
            )
    if not val > 0:
        raise ValueError("dataset.val is 0: expected a share above 0, a random cut of overlapping windows would leak train into val")
    vocabulary = "".join(sorted(set(cuts["train"]) - {UNKNOWN}))
    tokens = {name: _tokens(cuts[name], vocabulary) for name in wanted}
    unseen = {name: int((tokens[name] == 0).sum()) for name in wanted}
    size = len(vocabulary) + 1
    spec = DataSpec(
        in_shape=(context,),
        out_shape=(context, size),
        kind="language_model",
        vocab=size,
        tokens=(UNKNOWN, *vocabulary),
        split_rule=f"train, val, test are consecutive parts of the file: {', '.join(f'{len(cuts[name])} characters' for name in wanted)}",
        source=str(path),
        notes=(f"data: {size} tokens: {size - 1} characters of train and one for all others ({unseen} of them)",),
    )
    windows = {name: Windows(tokens[name], context, (stride or context) if name == "train" else context) for name in wanted}
    return Splits(windows["train"], windows["val"], windows.get("test"), spec)
