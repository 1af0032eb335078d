"""The figure of an experiment: its panels, what their lines mean, its claims with their verdicts. matplotlib loads when it is drawn.

All figures are `WIDE` inches wide, so that their letters can be read where a page shows them 900 pixels wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrun.claims.evidence import SeedEvidence
from dlrun.reproduce.sheet import Sheet
from dlrun.reproduce.shown import panels

MOST_PANELS = 6
"""Panels of one picture; what is more goes into another."""


def draw(sheet: Sheet, evidence: Sequence[SeedEvidence], found: Mapping[str, Any], folder: Path) -> list[Path]:
    """`figure.png`, and `figure-2.png` ... where there is much; claims stand beneath the first. `found` is the verdict's document."""
    from dlrun.reproduce.layout import Picture
    from dlrun.sinks.paint import save

    every = panels(sheet, evidence)
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("figure.png"), *folder.glob("figure-[0-9]*.png")):
        old.unlink()  # of another time, when there was more to show
    parts = [every[start : start + MOST_PANELS] for start in range(0, len(every), MOST_PANELS)] or [[]]
    paths = []
    for i, part in enumerate(parts):
        picture = Picture(sheet, evidence, found, part, with_claims=not i)
        title = sheet.name + (f" ({i + 1} of {len(parts)})" if len(parts) > 1 else "")
        if path := save(folder / (f"figure-{i + 1}.png" if i else "figure.png"), picture.draw, title):
            paths.append(path)
    return paths
