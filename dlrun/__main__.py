"""`python -m dlrun` is `dlrun`."""

from __future__ import annotations

from dlrun.cli import console

if __name__ == "__main__":
    console()
