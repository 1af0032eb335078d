"""Sources of Python's own standard library as text for language models: real text that lies on every machine where dlrun runs.

Source: The Python Standard Library, docs.python.org/3/library; tokens: see `dlrun/functional/tokens.py`.
"""

from __future__ import annotations

import platform
import sys
import sysconfig
from pathlib import Path
from typing import Literal

from dlrun.datasets._text import Shape, splits_of
from dlrun.errors import MissingError
from dlrun.ranges import Count, Fraction
from dlrun.types import Splits

MOST_BYTES = 2**24


def _source(module: str) -> str:
    """The text of a module's file, or of a package's `__init__.py`."""
    names = module.split(".")
    if names[0] not in sys.stdlib_module_names or not all(name.isidentifier() for name in names):
        raise ValueError(f"dataset.modules has {module!r}: expected modules of Python's standard library, as inspect or unittest.mock")
    place = Path(sysconfig.get_path("stdlib"), *names)
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file() and file.stat().st_size <= MOST_BYTES:
            return file.read_text("utf-8")
    raise MissingError(f"Python {platform.python_version()} has no source of {module} here ({place}.py): leave it out of dataset.modules")


def python_sources(
    *,
    modules: list[str],
    tokenizer: Literal["bytes", "characters", "words", "bpe"],
    vocab: Count | None,
    context: Count,
    stride: Count | None,
    val: Fraction,
    test: Fraction,
) -> Splits:
    """x, y int64 [context]. Of every module the first part is train, what follows val, the end test: shares of its characters.

    Each release of Python has a text of its own, and the data's fingerprint tells them apart: numbers of two releases are not of one text.
    Windows and vocabulary as in `text_file`. Raises ValueError for names that are no modules, or twice there, and shares too small for a
    window; MissingError for a module without source.
    """
    if not modules or len(set(modules)) < len(modules):
        raise ValueError(f"dataset.modules is {modules}: expected at least one module, none twice")
    shape = Shape(tokenizer, vocab, context, stride, val, test)
    texts = [_source(module) for module in modules]
    return splits_of(texts, shape, "dataset.modules", f"sources of Python {platform.python_version()}", whole=True)
