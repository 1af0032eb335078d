"""More seeds where they decide something: for the best cell and those that cannot be told from it, until one is left or each has enough.

Cells are compared seed by seed (95 %). Looking again after every seed makes "decided" too easy: ten looks at two equal cells decide
wrongly in about one case of five instead of one of twenty. Name a maximum you would have run anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from dlrun.config import compose
from dlrun.config.dump import dump
from dlrun.config.reach import seals
from dlrun.study.ledger import Ledger
from dlrun.study.plan import Cell, Job
from dlrun.study.results import run_of

FIRST, LEAST = 4, 3
"""With one seed a cell nothing is known of noise: so many of the best get seeds first, and so many seeds each."""
MOST = 100


def candidates(found: Mapping[str, Any]) -> list[int]:
    """Cells between which the order is undecided, the best first; none where it is decided. `found` is the study's document."""
    cells = {cell["number"]: cell for cell in found["cells"] if cell["value"] is not None}
    best = found["best"]
    if best is None:
        return []
    if cells[best]["interval"] is not None:
        wanted = [best, *found["ties"]]
    else:
        sign = -1.0 if str(found["goal"]).endswith(":max") else 1.0
        wanted = sorted(cells, key=lambda number: (sign * cells[number]["value"], number))[:FIRST]
    return wanted if len(wanted) > 1 else []


def wanted_seeds(found: Mapping[str, Any], most: int) -> dict[int, list[int]]:
    """Seeds to add by cell, so that all candidates have the same ones and one more than the most tried of them; at most `most` each."""
    have = {cell["number"]: list(cell["seeds"]) for cell in found["cells"] if cell["number"] in candidates(found)}
    union = sorted({seed for seeds in have.values() for seed in seeds})
    while have and len(union) < most and (len(union) < LEAST or all(len(seeds) >= len(union) for seeds in have.values())):
        union.append(max(union) + 1)
    union = union[: max(most, max((len(seeds) for seeds in have.values()), default=0))]
    added = {number: [seed for seed in union if seed not in seeds] for number, seeds in have.items()}
    return {number: seeds for number, seeds in added.items() if seeds}


def add_seeds(ledger: Ledger, folder: Path, wanted: Mapping[int, Sequence[int]]) -> int:
    """Enter jobs for more seeds, each the frozen config of its cell but for the seed. Returns how many."""
    cells = {cell["number"]: cell for cell in ledger.cells()}
    first = {job["cell"]: job for job in reversed(ledger.jobs())}
    new = []
    for number, seeds in wanted.items():
        jobs = tuple(_job(number, seed, Path(run_of(folder, first[number])) / "config.yaml") for seed in seeds)
        new.append(Cell(number, cells[number]["params"], jobs, cells[number]["source"]))
    return ledger.add(new, lambda cell: False)


def _job(number: int, seed: int, config: Path) -> Job:
    found = compose([f"seed={seed}"], from_file=config)
    text = dump(found.saved)
    return Job(number, seed, text, sha256(text.encode()).hexdigest(), seals(found.paths) or {})
