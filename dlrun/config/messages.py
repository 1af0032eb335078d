"""The words of config errors: nearest matches and lists of what there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlrun.config.places import part_names, printable
from dlrun.errors import UsageError

NOUNS = {"model": "network", "augment": "augmentation"}
PLURALS = {"loss": "losses"}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name in `known` that `name` was probably meant to be."""
    import difflib

    candidates = list(known)
    lowered = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name[:80].lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def listing(names: Sequence[str], limit: int = 16) -> str:
    """`a, b, c`, cut after `limit` names."""
    shown = ", ".join(printable(name, 60) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def hint(match: str | None, before: str = "") -> str:
    """`; did you mean x?`, or nothing."""
    return f"; did you mean {before}{match}?" if match else ""


def no_such_part(group: str, name: str) -> str:
    """What to say where `group` has no part called `name`."""
    known = part_names(group)
    plugin = "" if nearest(name, known) else "; your own part: --plugin FILE"
    return f"no {group} {printable(repr(name), 60)}; there are {listing(known) or 'none'}{hint(nearest(name, known), f'{group}=')}{plugin}"


def whole_number(name: str, text: object, low: int, high: int, what: str = "a whole number") -> int:
    """The number that `text` is, as typed for `name`. Raises UsageError where it is none from `low` to `high`."""
    said = str(text)
    if not (said.isascii() and said.isdecimal() and len(said) < 20 and low <= int(said) <= high):
        raise UsageError(f"{name} {printable(said, 40)}: expected {what} from {low} to {high}")
    return int(said)


def plural(group: str) -> str:
    """What the slots of `group` are called."""
    noun = NOUNS.get(group, group)
    return PLURALS.get(noun, noun + "s")


def article(noun: str) -> str:
    """`a model`, `an optimizer`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
