"""Secrets of the environment are kept out of whatever is written or printed: their values become `${oc.env:NAME}` again.

Two kinds are known: variables whose name says so (`..._KEY`, `..._TOKEN`, `PASSWORD` ...), and every variable that a config takes in by an
interpolation. A part may put an option into an error, a note or a fingerprint, and a shell puts `$TOKEN` into the command line: this is the
last door for all of them. What everyone sees anyway (the working folder, the home folder) is no secret, and neither are short numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

SECRET_NAME = re.compile(
    r"(?i)(?:^|_)(?:\w*KEY|\w*TOKEN|\w*SECRET|PASS|\w*PASSWORD|\w*PASSWD|\w*PASSPHRASE|\w*CREDENTIALS?|PAT|DSN)(?:$|_|\d)"
)
LEAST, LEAST_WORD = 4, 12
"""Characters of a secret; of one that is letters only, where no name says that it is one (else `offline` would be)."""

_named: dict[str, str] = {}
_taken: dict[str, str] = {}


def note_environment(environ: Mapping[str, str]) -> None:
    """Learn the variables whose name says that they are secret."""
    _named.clear()
    _named.update({value: name for name, value in environ.items() if SECRET_NAME.search(name) and _is_secret(value, LEAST)})


def note_taken(name: str, value: str) -> None:
    """Learn that a config takes in the variable `name` (W&B's own say where a run is filed)."""
    if not name.startswith("WANDB_") and _is_secret(value, LEAST_WORD if value.isalpha() else LEAST):
        _taken[value] = name


def _is_secret(value: str, least: int) -> bool:
    if len(value) < least or (len(value) < 8 and value.replace(".", "").isdecimal()):
        return False
    return not any(value in place for place in _public())


def _public() -> Iterable[str]:
    yield os.path.expanduser("~")
    try:
        yield os.getcwd()
    except OSError:
        return


def redact(text: str) -> str:
    """`text` with the names of variables in place of their values; the longest first, for one may hold another."""
    if not (_named or _taken):
        return text
    found = [(value, name) for value, name in {**_taken, **_named}.items() if value in text]
    for value, name in sorted(found, key=lambda pair: -len(pair[0])):
        text = text.replace(value, f"${{oc.env:{name}}}")
    return text


def redact_tree(tree: Any) -> Any:
    """Plain data whose secrets, typed out by a shell that fills in `$TOKEN`, are interpolations: a resume reads them again."""
    if isinstance(tree, dict):
        return {key: redact_tree(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [redact_tree(value) for value in tree]
    if isinstance(tree, str):
        for value, name in _named.items():
            tree = tree.replace(value, f"${{oc.env:{name}}}")
    return tree
