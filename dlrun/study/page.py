"""results.html of a study: the table, what is to be said about it, and the figures, in one file that needs nothing else.

Every word that people chose is escaped; there is no script in it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dlrun.sinks.terminal import clean
from dlrun.study.results import lines

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
.best td { font-weight: bold } .wide { overflow-x: auto } img { max-width: 100%; display: block; margin: 1rem 0 }
pre { background: #f5f5f5; padding: .5rem; overflow-x: auto; font-size: 12px }
"""


def page(found: Mapping[str, Any], remarks: Sequence[str], figures: Sequence[Path], folder: Path) -> str:
    """The HTML; `found` is the study's document, links are relative to `folder`."""
    title = _text(found["study"])
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
    parts = [head, policy, f"<style>{STYLE}</style></head><body>", f"<h1>Study {title}</h1>", _facts(found)]
    parts += [_table(found, folder), "<ul>", *(f"<li>{_text(text)}</li>" for text in remarks), "</ul>"]
    parts += [f"<h2>{_text(path.stem.capitalize())}</h2>{_image(path)}" for path in figures]
    parts += _failures(found["failures"], folder)
    return "\n".join([*parts, "</body></html>\n"])


def _text(value: object) -> str:
    return escape(clean(str(value)), quote=True)


def _facts(found: Mapping[str, Any]) -> str:
    cells = found["cells"]
    counts = [f"{sum(cell['state'] == state for cell in cells)} {state}" for state in dict.fromkeys(cell["state"] for cell in cells)]
    return f"<p>Goal {_text(found['goal'] or 'not known')}; {len(cells)} cells: {_text(', '.join(counts))}.</p>"


def _table(found: Mapping[str, Any], folder: Path) -> str:
    """The rows of the table in the terminal, all of them, with links to the runs."""
    _, columns, rows = lines(found, len(found["cells"]))
    cells = {cell["number"]: cell for cell in found["cells"]}
    head = "".join(f"<th>{_text(name)}</th>" for name in [*columns, "runs"])
    body = []
    for row in rows:
        runs = " ".join(_link(run, folder) for run in cells[row[1]]["runs"])
        kind = ' class="best"' if row[0] == "*" else ""
        body.append(f"<tr{kind}>{''.join(f'<td>{_text(value)}</td>' for value in row)}<td>{runs}</td></tr>")
    return f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(body) + "</table></div>"


def _link(run: str, folder: Path) -> str:
    return f'<a href="{escape(quote(os.path.relpath(run, folder)), quote=True)}/">{_text(Path(run).name)}</a>'


def _image(path: Path) -> str:
    return f'<img alt="{_text(path.stem)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def _failures(failures: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    if not failures:
        return []
    said = ["<h2>Failures</h2>"]
    for failure in failures:
        where = f"cell {failure['cell']} seed {failure['seed']}"
        log = "\n".join(_text(line) for line in str(failure["log"] or "").splitlines())
        said.append(f"<p>{_text(where)}: {_text(failure['class'])}: {_text(failure['reason'])} {_link(failure['run'], folder)}</p>")
        said += [f"<pre>{log}</pre>"] if log else []
    return said
