"""Text to tokens and back: bytes, characters, words or byte pairs, with a vocabulary taken from the training text alone.

Source: byte pairs: Sennrich, Haddow, Birch 2016, "Neural Machine Translation of Rare Words with Subword Units", section 3.2; over bytes:
Radford et al. 2019 (GPT-2), section 2.2.

A token is written as the text it stands for; bytes that are no UTF-8 by themselves (part of a character) as Python's surrogate escapes. So
the tokens of a text, joined, are that text, whatever the kind: `spell` is the one way back, and `DataSpec.tokens` is all it needs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dlrun.errors import MissingError

Kind = Literal["bytes", "characters", "words", "bpe"]
Numbers = np.ndarray[Any, np.dtype[Any]]

UNKNOWN = "\ufffd"
"""Stands for every character or word that is not in the vocabulary; always token 0, so that val and test cannot change the vocabulary."""
WORD = re.compile(r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s+(?!\S)|\s")
"""A word or a sign with the one space before it, or white space that goes with neither: pieces that joined are the text again."""
BPE_TOKENS = 1024
"""Tokens of byte pairs where no number is asked for: there would always be one more pair to merge."""
PIECE = 1 << 16
"""Characters that are merged at a time: the library needs about 100 bytes a token while it works."""


@dataclass(frozen=True)
class Tokeniser:
    """`tokens` are texts by number, `encode` turns text into token numbers (uint8 where they fit, else int32)."""

    kind: str
    tokens: tuple[str, ...]
    encode: Callable[[str], Numbers]

    @property
    def has_unknown(self) -> bool:
        """Whether token 0 stands for what the vocabulary lacks."""
        return has_unknown(self.tokens)

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of token numbers; what was unknown comes back as U+FFFD."""
        return spell(self.tokens, numbers)

    def bytes_of(self, texts: Sequence[str], encoded: Sequence[Numbers]) -> tuple[float, ...]:
        """UTF-8 bytes of each token; of the unknown one the mean over its occurrences in `texts` (`encoded` are their token numbers)."""
        sizes = np.array([len(_raw(token)) for token in self.tokens], dtype=np.float64)
        if self.has_unknown:
            sizes[0] = 0
            lost = sum(len(_raw(text)) - sizes[numbers].sum() for text, numbers in zip(texts, encoded))
            sizes[0] = lost / max(sum(int((numbers == 0).sum()) for numbers in encoded), 1)
        return tuple(sizes.tolist())


def has_unknown(tokens: Sequence[str]) -> bool:
    """Whether token 0 of `tokens` stands for whatever is not among them."""
    return bool(tokens) and tokens[0] == UNKNOWN


def spell(tokens: Sequence[str], numbers: Iterable[int]) -> str:
    """The text that token numbers stand for; bytes that make no UTF-8 become U+FFFD."""
    return _raw("".join(tokens[number] for number in numbers)).decode("utf-8", "replace")


def fit(kind: Kind, text: str, vocab: int | None) -> Tokeniser:
    """A tokeniser whose vocabulary is that of `text`, of at most `vocab` tokens, the unknown one included.

    bytes: all 256, whatever the text. characters, words: the most frequent ones (null: all) in code order after the unknown token.
    bpe: 256 bytes and merges (null: 1024 tokens in all); nothing is unknown. Raises ValueError where `vocab` cannot be.
    """
    if kind == "bytes":
        if vocab is not None and vocab != 256:
            raise ValueError(f"vocab is {vocab}: tokenizer bytes has 256 tokens, always; say vocab=null")
        return Tokeniser(kind, tuple(_text(bytes([value])) for value in range(256)), _encode_bytes)
    if kind == "bpe":
        return _byte_pairs(text, BPE_TOKENS if vocab is None else vocab)
    if vocab is not None and vocab < 2:
        raise ValueError(f"vocab is {vocab}: expected at least 2 tokens, one of them for what is unknown")
    counts = Counter(text if kind == "characters" else words(text))
    counts.pop(UNKNOWN, None)
    common = sorted(counts, key=lambda token: (-counts[token], token))[: None if vocab is None else vocab - 1]
    known = sorted(common)
    encode = _character_encoder("".join(known)) if kind == "characters" else _word_encoder(known)
    return Tokeniser(kind, (UNKNOWN, *known), encode)


def words(text: str) -> Iterator[str]:
    """The words, signs and white space of `text` in order; joined they are the text."""
    return (found.group() for found in WORD.finditer(text))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _type(size: int) -> type[np.generic]:
    return np.uint8 if size <= 256 else np.int32


def _encode_bytes(text: str) -> Numbers:
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).copy()


def _character_encoder(known: str) -> Callable[[str], Numbers]:
    codes = np.frombuffer(known.encode("utf-32-le"), dtype=np.uint32)

    def encode(text: str) -> Numbers:
        wanted = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        if not len(codes):
            return np.zeros(len(wanted), np.uint8)
        place = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
        return np.where(codes[place] == wanted, place + 1, 0).astype(_type(len(codes) + 1))

    return encode


def _word_encoder(known: Sequence[str]) -> Callable[[str], Numbers]:
    number = {word: place + 1 for place, word in enumerate(known)}
    kind = _type(len(known) + 1)
    return lambda text: np.fromiter((number.get(word, 0) for word in words(text)), dtype=kind)


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces of at most `PIECE` characters, cut before a space where there is one."""
    start = 0
    while start < len(text):
        end = start + PIECE
        if end < len(text):
            space = text.rfind(" ", start + 1, end)
            end = space if space > 0 else end
        yield text[start:end]
        start = end


def _stand_ins() -> dict[str, int]:
    """The character by which GPT-2's byte-level BPE writes each byte: itself where it prints, else one from U+0100 on, in order."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [value for value in range(256) if value not in plain]
    return {chr(value): value for value in plain} | {chr(0x100 + place): value for place, value in enumerate(others)}


def _byte_pairs(text: str, vocab: int) -> Tokeniser:
    if vocab < 257:
        raise ValueError(f"vocab is {vocab}: tokenizer bpe begins with the 256 bytes, expected at least 257")
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError:
        raise MissingError('tokenizer bpe needs the package tokenizers: pip install "dlrun[text]"') from None
    merger = Tokenizer(models.BPE())
    merger.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # Pairs are counted over a sorted alphabet and ties go to the smaller numbers: the same text gives the same merges in every process.
    merger.train_from_iterator(
        _pieces(text), trainers.BpeTrainer(vocab_size=vocab, min_frequency=2, show_progress=False, initial_alphabet=alphabet)
    )
    byte = _stand_ins()
    numbered = sorted(merger.get_vocab().items(), key=lambda pair: pair[1])
    tokens = tuple(_text(bytes(byte[character] for character in token)) for token, _ in numbered)
    kind = _type(len(tokens))

    def encode(text: str) -> Numbers:
        encoded = [np.array(merger.encode(piece, add_special_tokens=False).ids, dtype=kind) for piece in _pieces(text)]
        return np.concatenate(encoded) if encoded else np.zeros(0, kind)

    return Tokeniser("bpe", tokens, encode)
