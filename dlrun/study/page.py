"""results.html of a study: the table, what is to be said about it, and the figures, in one file that needs nothing else.

Every word that people chose is escaped; there is no script in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlrun.sinks.markup import head, image, link, table, text_of
from dlrun.study.results import lines


def page(found: Mapping[str, Any], remarks: Sequence[str], figures: Sequence[Path], folder: Path) -> str:
    """The HTML; `found` is the study's document, links are relative to `folder`."""
    parts = [*head(found["study"]), f"<h1>Study {text_of(found['study'])}</h1>", _facts(found)]
    parts += [_table(found, folder), "<ul>", *(f"<li>{text_of(text)}</li>" for text in remarks), "</ul>"]
    parts += [f"<h2>{text_of(path.stem.capitalize())}</h2>{image(path)}" for path in figures]
    parts += _failures(found["failures"], folder)
    return "\n".join([*parts, "</body></html>\n"])


def _facts(found: Mapping[str, Any]) -> str:
    cells = found["cells"]
    counts = [f"{sum(cell['state'] == state for cell in cells)} {state}" for state in dict.fromkeys(cell["state"] for cell in cells)]
    return f"<p>Goal {text_of(found['goal'] or 'not known')}; {len(cells)} cells: {text_of(', '.join(counts))}.</p>"


def _table(found: Mapping[str, Any], folder: Path) -> str:
    """The rows of the table in the terminal, all of them, with links to the runs."""
    _, columns, rows = lines(found, len(found["cells"]))
    cells = {cell["number"]: cell for cell in found["cells"]}
    body = [[*map(text_of, row), " ".join(link(run, folder) for run in cells[row[1]]["runs"])] for row in rows]
    return table([*columns, "runs"], body, ["best" if row[0] == "*" else "" for row in rows])


def _failures(failures: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    if not failures:
        return []
    said = ["<h2>Failures</h2>"]
    for failure in failures:
        where = f"cell {failure['cell']} seed {failure['seed']}"
        log = "\n".join(text_of(line) for line in str(failure["log"] or "").splitlines())
        said.append(f"<p>{text_of(where)}: {text_of(failure['class'])}: {text_of(failure['reason'])} {link(failure['run'], folder)}</p>")
        said += [f"<pre>{log}</pre>"] if log else []
    return said
