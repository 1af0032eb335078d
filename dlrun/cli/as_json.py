"""What --json prints: one document, indented, numbers that JSON has not (NaN, infinities) as texts."""

from __future__ import annotations

import json
import sys
from typing import Any

from dlrun.rundir import jsonable


def json_text(document: Any) -> str:
    """The document with a line end."""
    return json.dumps(jsonable(document), indent=1, allow_nan=False) + "\n"


def print_json(document: Any) -> None:
    """To stdout, whole before anything else is done."""
    sys.stdout.write(json_text(document))
    sys.stdout.flush()
