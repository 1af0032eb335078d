"""Files that several drivers of a study write, perhaps at the same moment: the last one wins, and none fails for the other."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_shared(path: Path, text: str) -> None:
    """Write `text` so that a reader sees a whole file; each writer has a part file of its own."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
