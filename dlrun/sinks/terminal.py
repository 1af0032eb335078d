"""Text for terminals: control codes made visible, widths counted in columns, colours, aligned tables. No dependency, no import cost.

Whatever people choose (run names, class names, notes) passes `clean` before it is printed, so that it can neither move the cursor, recolour
the screen, forge a line nor hide behind right-to-left marks. Widths follow Unicode Standard Annex #11 (East Asian Width).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

STYLES = {"": "", "bold": "1", "dim": "2", "good": "32", "warning": "33", "error": "31", "accent": "36", "title": "1;36"}
"""Style name -> parameters of the escape sequence (ECMA-48 SGR)."""
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that are shown as escapes: control, format (bidirectional, zero width), surrogates, line separators."""
ASCII = str.maketrans({"·": "-", "…": "~", "━": "#", "─": "-", "×": "x", "╸": ">", "±": "+"})
"""What our own signs become where the stream cannot show them."""

Segment = tuple[str, str]
"""A piece of a line and the name of its style."""


def clean(text: object) -> str:
    """`text` as one printable line: tabs become spaces, every other control or invisible character its escape (`\\x1b`, `\\u202e`)."""
    string = str(text)
    if string.isascii() and string.isprintable():
        return string
    return "".join(" " if sign == "\t" else ascii(sign)[1:-1] if unicodedata.category(sign) in HIDDEN else sign for sign in string)


def columns_of(text: str) -> int:
    """How many columns a terminal needs for `text`."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def clip(text: str, columns: int) -> str:
    """`text` cut to at most `columns` columns, with `…` where something was cut."""
    if columns_of(text) <= columns:
        return text
    kept, used = [], 0
    for sign in text:
        used += columns_of(sign)
        if used > columns - 1:
            break
        kept.append(sign)
    return ("".join(kept) + "…") if columns > 0 else ""


def pad(text: str, columns: int, right: bool = False) -> str:
    """`text` filled with spaces to `columns` columns, at its left where `right` is asked for."""
    space = " " * max(0, columns - columns_of(text))
    return space + text if right else text + space


def paint(text: str, style: str, colour: bool) -> str:
    """`text` in a style of `STYLES`, reset at its end; unchanged without colour."""
    code = STYLES[style] if colour else ""
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def is_terminal(stream: Any) -> bool:
    """Whether `stream` is a terminal that understands cursor movement."""
    try:
        return bool(stream.isatty()) and os.environ.get("TERM", "") != "dumb"
    except (AttributeError, ValueError, OSError):
        return False


def wants_colour(terminal: bool) -> bool:
    """Colour on terminals, unless NO_COLOR is set (https://no-color.org)."""
    return terminal and not os.environ.get("NO_COLOR")


def width_of(stream: Any) -> int:
    """Columns of the terminal behind `stream`; COLUMNS, or else 80, where there is none."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (AttributeError, ValueError, OSError):
        columns = 0
    if columns <= 0:
        columns = int(text) if (text := os.environ.get("COLUMNS", "")).isdecimal() else 80
    return max(1, columns)


def encodable(text: str, stream: TextIO | Any) -> str:
    """`text` with what the stream's encoding lacks replaced: our own signs by ASCII ones, others by escapes."""
    if text.isascii():
        return text
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeError:
        return text.translate(ASCII).encode(encoding, "backslashreplace").decode(encoding, "replace")
    return text


def number(value: Any, digits: int = 4) -> str:
    """A number for people: `digits` significant ones, `1.2e-05` where small, integers whole; text (`nan` in JSON) as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return clean(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if abs(value) >= 10_000 else str(value)
    if value != 0 and 1e-3 <= abs(value) < 10**digits:
        places = max(0, digits - 1 - int(f"{value:e}"[f"{value:e}".index("e") + 1 :]))
        return f"{value:.{places}f}"
    return "0" if value == 0 else f"{value:.{digits - 2}e}" if value == value and abs(value) != float("inf") else str(value)


def duration(seconds: float | None) -> str:
    """Seconds as `3.1 s`, `2:05` or `1:02:05`; `?` where they are unknown."""
    if seconds is None or not 0 <= seconds < 1e9:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _shrink(widths: list[int], room: int) -> list[int]:
    """Widths that together fit `room`: the widest columns give way first, none below 4."""
    widths = list(widths)
    while sum(widths) > room and max(widths) > 4:
        widths[widths.index(max(widths))] -= 1
    return widths


def _is_number(cell: Any) -> bool:
    return cell == "" or isinstance(cell, (int, float, complex)) or str(cell).endswith(" %")


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]], room: int | None = None) -> list[list[Segment]]:
    """An aligned table: a header, a rule, the rows. Numbers stand at the right of their column. At most `room` columns wide where given."""
    cells = [[clean(cell) if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    names = [clean(name) for name in columns]
    widths = [max([columns_of(name), *(columns_of(row[i]) for row in cells)]) for i, name in enumerate(names)]
    if room is not None:
        widths = _shrink(widths, room - 2 * len(widths))
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(names))]

    def line(texts: Sequence[str]) -> str:
        return "  " + "  ".join(pad(clip(t, w), w, r) for t, w, r in zip(texts, widths, right, strict=True)).rstrip()

    rule = "  " + "  ".join("─" * width for width in widths)
    return [[(line(names), "bold")], [(rule, "dim")], *([(line(row), "")] for row in cells)]


def metric_text(metrics: Mapping[str, Any], digits: int = 4) -> list[str]:
    """`train/loss` as `loss 0.2134`, `val/accuracy` as `val accuracy 0.9510`, one text a metric."""
    return [f"{metric_name(name)} {number(value, digits)}" for name, value in metrics.items()]


def metric_name(name: str) -> str:
    """`train/loss` -> `loss`, `val/accuracy` -> `val accuracy`: the training split is the one a bar speaks of."""
    return clean(name.removeprefix("train/").replace("/", " "))
