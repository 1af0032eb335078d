"""What a run shows on the console: lines, tables, one live bar on a terminal, and the same as plain text in the run's `log.txt`.

The bar is one line written by hand (carriage return, text, erase to the end): rich would cost 62 ms of import and 0.36 ms a refresh. No
terminal mode is changed, the cursor is not hidden and colours are reset within each write, so not even SIGKILL leaves a broken terminal.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from dlrun.redact import redact
from dlrun.sinks import terminal
from dlrun.sinks.ending import ASIDE, joined, result_segments, value_style
from dlrun.sinks.terminal import Segment, clean, columns_of, duration, metric_name, number

PLAIN_SECONDS = 10.0
"""Where there is no terminal: at most one progress line in so many seconds."""
EVALUATION_SECONDS = 1.0
"""On a terminal: at most one evaluation line a second above the bar; the bar shows each."""
BAR_COLUMNS, LEAST_BAR = 24, 10
MOST_METRICS = 4


class Console:
    """The one place that writes to the terminal during a run. All texts may hold what people typed; nothing in them is interpreted.

    `stream` is stdout unless given (stderr with --json); `live` says whether to draw a bar (None: if the stream is a terminal); `log` is a
    text file that gets everything uncoloured. A stream or log that can no longer be written is dropped; training goes on.
    """

    def __init__(self, stream: TextIO | None = None, live: bool | None = None, log: TextIO | None = None) -> None:
        self._stream: TextIO | None = sys.stdout if stream is None else stream
        self._live = terminal.is_terminal(self._stream) if live is None else live
        self._colour = terminal.wants_colour(self._live)
        self._log = log
        self._early: list[str] | None = [] if log is None else None
        self._bar, self._bar_columns = "", [0]
        self._plain_time = time.monotonic()
        self._evaluation_time = float("-inf")

    def attach(self, log: TextIO) -> None:
        """Copy everything to `log`, beginning with what was printed so far (a run's directory is made after the first lines)."""
        self._log, early, self._early = log, self._early or [], None
        for text in early:
            self._to_log(text)

    def line(self, text: object, style: str = "") -> None:
        """Print one line above the bar; `style` is a name in `terminal.STYLES`."""
        self._print([(clean(text), style)])

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where there is none, and lines are as long as they are."""
        return terminal.width_of(self._stream) if self._live else None

    @property
    def live(self) -> bool:
        """Whether it draws on a terminal."""
        return self._live

    def panel(self, lines: Sequence[str]) -> None:
        """Keep these lines below all others, in place of the bar; only on a terminal. The last ones shown stay until `close`."""
        if self._live:
            start, width = self._erase(), terminal.width_of(self._stream) - 1
            shown = [terminal.clip(clean(line), width) for line in lines]
            self._bar, self._bar_columns = "\n".join(shown), [columns_of(line) for line in shown]
            self._write(start + self._bar)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print `rows` (texts and numbers) aligned under `columns`; on a terminal no wider than it."""
        if title:
            self._print([(clean(title), "title")])
        for line in terminal.table_lines(columns, rows, self.width):
            self._print(line)

    def progress(self, status: Mapping[str, Any]) -> None:
        """Show where training stands. To be called at flushes of telemetry, never each step.

        `status`: step, steps, metrics (name -> value), steps_per_second, eta_seconds; all but step may be missing or None.
        """
        now = time.monotonic()
        if now - self._plain_time >= PLAIN_SECONDS:
            self._plain_time = now
            text = " · ".join(_progress_texts(status))
            self._to_log(text)
            if not self._live:
                self._write(text + "\n")
        if self._live:
            self._draw(status)

    def evaluation(self, step: int, metrics: Mapping[str, Any], note: str = "") -> None:
        """Print an evaluation's metrics; on a terminal at most one a second, for the bar shows the newest."""
        segments: list[Segment] = [(f"step {step}", "bold"), (":  ", "dim"), *joined(metrics)]
        if note:
            segments.append((f" · {clean(note)}", "dim"))
        now = time.monotonic()
        self._plain_time = now
        shown = not self._live or now - self._evaluation_time >= EVALUATION_SECONDS
        self._evaluation_time = now if shown else self._evaluation_time
        self._print(segments, shown)

    def result(self, summary: Mapping[str, Any]) -> None:
        """Print the line a run ends with.

        `summary` is the run's summary.json, with `run_dir`; `baselines` in it hold `<split>/<baseline>_<metric>`, such as
        `test/majority_accuracy`, which stand beside the metric like the worst class's recall.
        """
        self._clear()
        self._print(result_segments(summary))

    def close(self) -> None:
        """Take the bar off the screen; may be called any number of times, from anywhere."""
        with contextlib.suppress(Exception):
            self._clear()
            if self._log is not None:
                self._log.flush()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _print(self, segments: Sequence[Segment], shown: bool = True) -> None:
        self._to_log("".join(text for text, _ in segments))
        if shown:
            bar, start = self._bar, self._erase()
            painted = "".join(terminal.paint(text, style, self._colour) for text, style in segments)
            self._write(f"{start}{painted}\n{bar}")
            self._bar = bar

    def _draw(self, status: Mapping[str, Any]) -> None:
        start = self._erase()
        segments = bar_segments(status, terminal.width_of(self._stream) - 1)
        self._bar = "".join(terminal.paint(text, style, self._colour) for text, style in segments)
        self._bar_columns = [sum(columns_of(text) for text, _ in segments)]
        self._write(start + self._bar)

    def _erase(self) -> str:
        """What takes the bar off the screen: a terminal made narrower has broken it into several rows."""
        if not self._bar:
            return ""
        width = terminal.width_of(self._stream)
        rows = sum(max(1, -(-columns // width)) for columns in self._bar_columns)
        return (f"\x1b[{rows - 1}A" if rows > 1 else "") + "\r\x1b[J"

    def _clear(self) -> None:
        if self._bar:
            self._write(self._erase())
            self._bar = ""

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(terminal.encodable(redact(text), self._stream))
            self._stream.flush()
        except (OSError, ValueError) as error:  # closed pipe or file: what reads us has gone, the training has not
            self._stream = None
            self._to_log(f"console: nobody reads it any more ({clean(error)}); training goes on")

    def _to_log(self, text: str) -> None:
        if self._early is not None:
            self._early.append(text)
        if self._log is None:
            return
        try:
            self._log.write(terminal.encodable(redact(text), self._log) + "\n")
            self._log.flush()
        except (OSError, ValueError) as error:
            self._log = None
            self._print([(f"log.txt: no longer written ({clean(error)}); training goes on", "warning")])


def _counted(status: Mapping[str, Any]) -> str:
    step, steps = status.get("step", 0), status.get("steps")
    return f"{step}/{steps}" if steps else str(step)


def _tail(status: Mapping[str, Any]) -> list[str]:
    texts = []
    if status.get("steps_per_second"):
        texts.append(f"{number(float(status['steps_per_second']), 3)} steps/s")
    if status.get("eta_seconds") is not None:
        texts.append(f"{duration(status['eta_seconds'])} left")
    return texts


def _progress_texts(status: Mapping[str, Any]) -> list[str]:
    return [f"step {_counted(status)}", *terminal.metric_text(dict(_by_weight(status.get("metrics", {})))), *_tail(status)]


def bar_segments(status: Mapping[str, Any], room: int) -> list[Segment]:
    """The bar in at most `room` columns: what matters least goes first (metrics from the last, then the bar, speed, ETA)."""
    counted = _counted(status).rjust(2 * len(str(status.get("steps") or "")) + 1)
    metrics, tail = _by_weight(status.get("metrics", {})), _tail(status)
    for kept, kept_tail, least in _plans(len(metrics), len(tail), bool(status.get("steps"))):
        segments = [(counted, "bold"), *_fields(metrics[:kept]), *((f"  {text}", "dim") for text in tail[len(tail) - kept_tail :])]
        rest = room - sum(columns_of(text) for text, _ in segments)
        if rest >= least:
            return [*_bar_of(status, min(BAR_COLUMNS, rest - 1) if least else 0), *segments]
    return [(terminal.clip(counted.strip(), room), "bold")]


def _plans(metrics: int, tail: int, bar: bool) -> Iterator[tuple[int, int, int]]:
    """(metrics kept, tail texts kept, least room for the bar), the richest first."""
    few = min(2, metrics)
    if bar:
        yield from ((kept, tail, LEAST_BAR + 1) for kept in range(metrics, few - 1, -1))
    yield from ((kept, tail, 0) for kept in range(few if bar else metrics, few - 1, -1))
    yield from ((few, kept, 0) for kept in range(tail - 1, -1, -1))
    yield from ((kept, 0, 0) for kept in range(few - 1, -1, -1))


def _by_weight(metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The loss, what is measured on val, then on train: who has little room still sees the two that matter. At most `MOST_METRICS`."""

    def weight(name: str) -> int:
        split, _, what = name.partition("/")
        if split == "train":
            return 0 if what == "loss" else 5 if what in ASIDE or what.startswith("lr_") else 2
        return (3 if what == "loss" else 1) if split == "val" else 4

    return sorted(metrics.items(), key=lambda item: weight(item[0]))[:MOST_METRICS]


def _fields(metrics: Sequence[tuple[str, Any]]) -> list[Segment]:
    """Metrics in fields of one width, so that the bar before them does not jump with the number of digits."""
    segments: list[Segment] = []
    for name, value in metrics:
        text = number(value)
        segments += [(f"  {metric_name(name)} ", ""), (text.ljust(7), value_style(text))]
    return segments


def _bar_of(status: Mapping[str, Any], columns: int) -> list[Segment]:
    if columns <= 0:
        return []
    share = min(1.0, max(0.0, float(status.get("step", 0)) / float(status["steps"])))
    done = round(share * columns)
    return [("━" * done, "accent"), ("─" * (columns - done), "dim"), (" ", "")]
