"""What datasets of text share: consecutive cuts, a vocabulary from train alone, windows of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlrun.functional.tokens import Kind, Numbers, Tokeniser, fit
from dlrun.types import DataSpec, Splits

KEEP = "dataset.vocab=N below the number of tokens makes rare words unknown in train too"


class Shape(NamedTuple):
    """Options of the rows: tokens, and how they are cut."""

    tokenizer: Kind
    vocab: int | None
    context: int
    stride: int | None
    val: float
    test: float


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

    def whole(self) -> dict[str, Tensor]:
        """All of them as views of one tensor, 8 bytes a token: data in memory, which baselines and the fingerprint read whole."""
        rows = self.tokens.long().unfold(0, len(self.span), self.stride)
        return {"x": rows[:, :-1], "y": rows[:, 1:]}


def splits_of(texts: Sequence[str], shape: Shape, what: str, source: str, whole: bool = False) -> Splits:
    """Rows of `texts`, each of which is cut into train, val and test; `what` names them in a message (`dataset.path=x`); `whole` keeps
    rows as data in memory.

    Raises ValueError for shares too small for a window and a vocabulary that cannot be.
    """
    context = shape.context
    cuts = _cuts(texts, shape.val, shape.test)
    found = fit(shape.tokenizer, cuts["train"], shape.vocab)
    encoded = {name: found.encode(part) for name, part in cuts.items()}
    for name, numbers in encoded.items():
        if len(numbers) <= context:
            unit = "characters" if shape.tokenizer == "characters" else "tokens"
            raise ValueError(f"the {name} share of {what} has {len(numbers)} {unit}: expected more than context, {context}")
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
        split_rule=f"train, val, test are consecutive parts of {'the file' if len(texts) == 1 else f'each of {len(texts)} files'}: {parts}",
        source=source,
        notes=(_vocabulary(found, encoded, shape.vocab), f"data: bytes a token: {per_token} ({', '.join(cuts)})"),
    )
    strides = {name: (shape.stride or context) if name == "train" else context for name in encoded}
    windows = {name: Windows(torch.from_numpy(numbers), context, strides[name]) for name, numbers in encoded.items()}
    rows: dict[str, Any] = {name: each.whole() for name, each in windows.items()} if whole else {**windows}
    return Splits(rows["train"], rows["val"], rows.get("test"), spec)


def _cuts(texts: Sequence[str], val: float, test: float) -> dict[str, str]:
    """Train, val and test as consecutive parts of each text, joined; an empty test is left out."""
    if not val > 0:
        raise ValueError("dataset.val is 0: expected a share above 0, a random cut of overlapping windows would leak train into val")
    cuts = {"train": "", "val": "", "test": ""}
    for text in texts:
        edges = [0, round(len(text) * (1 - val - test)), round(len(text) * (1 - test)), len(text)]
        for name, low, high in zip(cuts, edges, edges[1:]):
            cuts[name] += text[low:high]
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
