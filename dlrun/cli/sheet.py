"""How `dlrun show` sets options on a terminal: name, default, type and what it means, within its columns."""

from __future__ import annotations

import os
import sys

from dlrun.config.places import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEAST, MOST = 60, 120


def columns() -> int:
    """Columns to write in: those of COLUMNS or of the terminal, from 60 to 120; 100 where there is none."""
    text = os.environ.get("COLUMNS", "")
    try:
        wide = int(text) if text.isdecimal() else os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        wide = 100
    return min(max(wide, LEAST), MOST)


def wrapped(text: str, width: int, indent: int) -> list[str]:
    """`text` in lines of at most `width` columns, each `indent` in; a longer word stands alone."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and indent + len(line) + 1 + len(word) > width:
            lines.append(" " * indent + line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, " " * indent + line] if line else lines


def option_lines(options: list[dict[str, Any]], width: int) -> list[str]:
    """An option a block: name and default in columns, its type behind them or below, then what it means."""
    name_width = max((len(option["name"]) for option in options), default=0)
    value_width = min(max((len(printable(option["default"], 80)) for option in options), default=0), 24)
    lines = []
    for option in options:
        means = f"  ({option['means'].removeprefix(option['type'] + ': ')})" if option.get("means") else ""
        head = f"  {option['name']:<{name_width}}  {printable(option['default'], 80):<{value_width}}"
        kind = printable(option["type"] + means)
        indent = name_width + 4
        if len(head) + 2 + len(kind) <= width:
            lines.append(f"{head}  {kind}".rstrip())
        else:
            lines += [head.rstrip(), *wrapped(kind, width, indent)]
        lines += wrapped(printable(option["comment"]), width, indent)
    return lines
