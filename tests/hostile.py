"""Hostile files for tests: JSON trees mutated under a fixed seed, sealed again as a careful forger would, and commands that read them."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dlrun import checkpoint
from dlrun.cli import main

ODD: list[Any] = [
    None, True, -1, 0, 10**30, 1.5, 1e308, float("nan"), [], [[]], [1] * 50, {}, {"a": {}},
    "", "x", "../../x", "/etc/passwd", "\x1b[31m\u202e", "[/x]", "²", "9" * 300,
]  # fmt: skip
"""Values that stand where another type, range or shape is expected."""


class Answer(NamedTuple):
    """What a command made of its input."""

    code: int
    out: str
    err: str
    seconds: float


def ask(*words: str) -> Answer:
    """Run `dlrun` with `words` in this process; `seconds` is CPU time."""
    out, err = io.StringIO(), io.StringIO()
    began = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return Answer(code, out.getvalue(), err.getvalue(), time.process_time() - began)


def assert_calm(answer: Answer, what: object, most: int = 25) -> None:
    """One clear line or an ordinary answer: no traceback, no flood, no escape code, nothing that takes long."""
    assert answer.code in (0, 1, 2, 3), (what, answer)
    assert "Traceback" not in answer.err, (what, answer.err)
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert answer.code == 0 or 1 <= len(errors) <= most, (what, answer.err)
    assert all(len(line) < 2000 for line in errors), what
    assert not any(sign in answer.out + answer.err for sign in "\x1b\u202e\x07"), what
    assert answer.seconds < 4, (what, answer.seconds)


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of every value in `tree`, containers too."""
    yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from leaves(value, (*path, key))


def mutated(tree: Any, rng: random.Random, odd: list[Any] = ODD) -> tuple[Any, str]:
    """A copy of `tree` with one value replaced or taken away, and what was done."""
    tree = copy.deepcopy(tree)
    path = rng.choice([path for path in leaves(tree) if path])
    node = tree
    for key in path[:-1]:
        node = node[key]
    if rng.random() < 0.2:
        del node[path[-1]]
        return tree, f"{path} dropped"
    node[path[-1]] = value = rng.choice(odd)
    return tree, f"{path} = {value!r}"


def reseal(path: Path) -> None:
    """Make the manifest of the checkpoint `path` fit its files."""
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    del manifest["sha256"]
    for name, facts in manifest["files"].items():
        facts.update(sha256=checkpoint._digest(path / name), bytes=os.path.getsize(path / name))
    (path / checkpoint.MANIFEST).write_text(json.dumps(checkpoint._sealed(manifest)))


DEEP = "[" * 200_000
TEXTS: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(5000),
    "no UTF-8": b"\xff\xfe\x00{",
    "deep": DEEP.encode(),
    "deep object": (b'{"a":' * 100_000) + b"1",
    "long number": b"9" * 5000,
    "list": b"[1, 2]",
    "text": b'"x"',
    "number": b"1e999",
    "null": b"null",
    "twice": b'{"step": 1, "step": "x"}',
    "escape": b'{"status": "\\u001b[2J\\u202e", "reason": "[/x]\\n\\n\\nerror: forged", "step": "\\u0007"}',
    "surrogate": b'{"status": "\\ud800", "step": "\\udfff", "best": {"metric": "\\ud83d", "value": "\\udead"}}',
}

CHECKPOINT_TEXTS = {
    **TEXTS,
    "huge header": (2**62).to_bytes(8, "little") + b"{}",
    "header of the file's length": (2**20).to_bytes(8, "little") + b"{}",
}


def header(**entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


LIES = {
    "overlap": header(a=entry("F32", [4], 0, 16), b=entry("F32", [4], 8, 24)) + bytes(24),
    "beyond": header(a=entry("F32", [4], 0, 1 << 40)) + bytes(16),
    "backwards": header(a=entry("F32", [4], 16, 0)) + bytes(16),
    "overflowing shape": header(a=entry("F32", [2**32, 2**32, 2**32], 0, 16)) + bytes(16),
    "product wraps to 4": header(a=entry("F32", [2**63, 2, 1], 0, 0)),
    "negative": header(a=entry("F32", [-4], 0, 16)) + bytes(16),
    "dtype": header(a=entry("F99", [4], 0, 16)) + bytes(16),
    "dtype of another size": header(a=entry("F64", [4], 0, 16)) + bytes(16),
    "types": header(a=entry(3, "x", None, [])) + bytes(16),
    "deep": (400_000).to_bytes(8, "little") + b'{"a":' * 80_000,
    "metadata": header(__metadata__={"a": {"b": 1}}),
    "gap": header(a=entry("F32", [1], 8, 12)) + bytes(12),
}
