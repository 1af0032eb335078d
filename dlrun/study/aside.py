"""Standard output without what a library's own threads print: on it stand the table and the JSON document, and nothing else."""

from __future__ import annotations

import sys
import threading
from typing import Any


class Aside:
    """In place of `sys.stdout`: what threads print whose name begins with `prefix` is kept in `texts`, all else goes its way."""

    def __init__(self, prefix: str) -> None:
        self.stream, self.prefix, self.texts = sys.stdout, prefix, list[str]()
        sys.stdout = self

    def write(self, text: str) -> int:
        """Print, or keep."""
        if threading.current_thread().name.startswith(self.prefix):
            self.texts.append(text)
            return len(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def end(self) -> str:
        """Give `sys.stdout` back; what was kept."""
        if sys.stdout is self:
            sys.stdout = self.stream
        return "".join(self.texts)
