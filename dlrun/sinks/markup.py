"""What pages share: their style, text in which no name can do anything, links to runs, pictures inside the file. No script, no network."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from dlrun.sinks.terminal import clean

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
.best td { font-weight: bold } .wide { overflow-x: auto } img { max-width: 100%; display: block; margin: 1rem 0 }
pre { background: #f5f5f5; padding: .5rem; overflow-x: auto; font-size: 12px }
"""
POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"


def head(title: str, style: str = "") -> list[str]:
    """The page until its first heading; `style` goes behind what all pages share."""
    begin = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text_of(title)}</title>'
    return [begin, POLICY, f"<style>{STYLE}{style}</style></head><body>"]


def text_of(value: object) -> str:
    """A value as text, escaped."""
    return escape(clean(str(value)), quote=True)


def link(run: str, folder: Path) -> str:
    """A run directory, by a path relative to the page's folder."""
    return f'<a href="{escape(quote(os.path.relpath(run, folder)), quote=True)}/">{text_of(Path(run).name)}</a>'


def image(path: Path) -> str:
    """A picture, inside the page."""
    return f'<img alt="{text_of(path.stem)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def table(columns: Sequence[object], rows: Sequence[Sequence[str]], kinds: Sequence[str] = ()) -> str:
    """A table; cells of `rows` are HTML, `kinds` classes of its rows."""
    top = "".join(f"<th>{text_of(name)}</th>" for name in columns)
    body = []
    for i, row in enumerate(rows):
        kind = f' class="{kinds[i]}"' if i < len(kinds) and kinds[i] else ""
        body.append(f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>")
    return f'<div class="wide"><table><tr>{top}</tr>\n' + "\n".join(body) + "</table></div>"
