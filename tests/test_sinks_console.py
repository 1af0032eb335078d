"""The console: what a terminal of a given width ends up showing, what a pipe and the log get, and that no text is interpreted."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from dlrun.sinks import console as console_module
from dlrun.sinks import terminal
from dlrun.sinks.console import Console, bar_segments

ROOT = Path(__file__).parents[1]
HOSTILE = "run [/x] [bold]\x1b[31mred\x1b[2J\r\nforged \u202eeht\udc80\x9b"


class Screen(io.StringIO):
    """A terminal `columns` wide: understands what we send (CR, LF, erase below, cursor up, colours) and fails on anything else."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns, self.rows, self.row, self.column = columns, [""], 0, 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for sequence, sign in re.findall(r"(\x1b\[[0-9;]*[A-Za-z])|([\s\S])", text):
            self._obey(sequence) if sequence else self._put(sign)
        return len(text)

    def _obey(self, sequence: str) -> None:
        if sequence.endswith("J"):
            self.rows = [*self.rows[: self.row], self.rows[self.row][: self.column]]
        elif sequence.endswith("A"):
            self.row -= int(sequence[2:-1])
        else:
            assert sequence.endswith("m"), sequence

    def _put(self, sign: str) -> None:
        if sign == "\r":
            self.column = 0
            return
        if sign == "\n" or self.column == self.columns:
            self.row, self.column = self.row + 1, 0
            self.rows += [""] * (self.row + 1 - len(self.rows))
        if sign != "\n":
            assert sign.isprintable(), repr(sign)
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + sign + row[self.column + 1 :]
            self.column += 1

    def resize(self, columns: int) -> None:
        """As terminals do: rows that no longer fit are broken, the cursor stays at its letter."""
        broken: list[str] = []
        for i, row in enumerate(self.rows):
            if i == self.row:
                self.row, column = len(broken) + max(0, self.column - 1) // columns, (self.column - 1) % columns + 1
            broken += [row[j : j + columns] for j in range(0, max(len(row), 1), columns)]
        self.rows, self.columns, self.column = broken, columns, column

    def shown(self) -> list[str]:
        return [row.rstrip() for row in self.rows if row.strip()]


def screen(monkeypatch: pytest.MonkeyPatch, columns: int) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    made = Screen(columns)
    monkeypatch.setattr(terminal, "width_of", lambda stream: made.columns)
    return made


def status(step: int = 300, **more: object) -> dict[str, object]:
    metrics = {"train/loss": 0.2134, "train/lr": 1e-3, "val/loss": 0.31, "val/accuracy": 0.951}
    return {"step": step, "steps": 600, "metrics": metrics, "steps_per_second": 193.2, "eta_seconds": 1.6, **more}


def test_a_terminal_shows_lines_and_below_them_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    tty = screen(monkeypatch, 100)
    console = Console(tty)
    console.line("first")
    for step in (100, 200, 300):
        console.progress(status(step))
        console.line(f"note {step}")
    assert tty.shown()[:4] == ["first", "note 100", "note 200", "note 300"]
    (bar,) = tty.shown()[4:]
    assert bar.startswith("━") and "300/600  loss 0.2134   val accuracy 0.9510" in bar and bar.endswith("193 steps/s  1.6 s left")
    console.close()
    console.close()
    assert tty.shown() == ["first", "note 100", "note 200", "note 300"]


@pytest.mark.parametrize("columns", range(1, 131, 3))
def test_the_bar_fits_every_width_and_gives_up_the_least_first(columns: int) -> None:
    text = "".join(text for text, _ in bar_segments(status(), columns))
    assert terminal.columns_of(text) <= columns
    assert columns < 8 or "300/600" in text
    assert columns < 40 or "loss 0.2134" in text
    assert columns < 60 or "val accuracy" in text


def test_a_terminal_made_narrower_leaves_no_remains_of_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    tty = screen(monkeypatch, 110)
    console = Console(tty)
    console.line("above")
    console.progress(status())
    tty.resize(30)
    console.progress(status(301))
    assert [row for row in tty.shown() if "300" in row or "━" in row] == []
    console.close()
    assert tty.shown() == ["above"]


def test_nothing_people_typed_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    tty, log = screen(monkeypatch, 400), io.StringIO()
    console = Console(tty, log=log)
    console.line(HOSTILE)
    console.table(HOSTILE, [HOSTILE], [[HOSTILE]])
    console.evaluation(1, {f"val/{HOSTILE}": 1.0}, HOSTILE)
    console.progress(status(metrics={f"train/{HOSTILE}": float("nan")}))
    console.result({"status": HOSTILE, "reason": HOSTILE, "step": 1, "metrics": {f"test/{HOSTILE}": "nan"}, "run_dir": HOSTILE})
    for text in ("\n".join(tty.shown()), log.getvalue()):
        assert text.count("run [/x] [bold]\\x1b[31mred\\x1b[2J\\r\\nforged \\u202eeht\\udc80\\x9b") >= 5
    assert all(sign.isprintable() or sign == "\n" for sign in log.getvalue())


def test_clean_keeps_letters_of_all_scripts() -> None:
    assert terminal.clean("naïve 数字 Ωμέγα \t$x$ 🙂") == "naïve 数字 Ωμέγα  $x$ 🙂"
    assert terminal.columns_of("数字") == 4 and terminal.columns_of("e\u0301") == 1
    assert terminal.clip("数字数字", 5) == "数字…" and terminal.pad("数", 4) == "数  "


def test_colour_only_on_a_terminal_without_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    written = {}
    for name, live, setting in (("colour", True, ""), ("no_color", True, "1"), ("pipe", False, "")):
        monkeypatch.setenv("NO_COLOR", setting)
        stream = io.StringIO()
        console = Console(stream, live=live)
        console.line("text", "warning")
        console.evaluation(1, {"val/loss": 1.0})
        written[name] = stream.getvalue()
    assert "\x1b[33mtext\x1b[0m" in written["colour"]
    assert "\x1b" not in written["no_color"] + written["pipe"]


def test_a_pipe_gets_plain_lines_at_most_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now)
    stream, log = io.StringIO(), io.StringIO()
    console = Console(stream, log=log)
    for step in range(600):
        now += 0.1
        console.progress(status(step))
        if step == 250:
            console.evaluation(step, {"val/loss": 0.5, "val/accuracy": "nan"})
    lines = stream.getvalue().splitlines()
    assert lines[2] == "step 250:  val loss 0.5000 · val accuracy nan"
    assert lines[0].startswith("step 99/600 · loss 0.2134 · val accuracy 0.9510 · val loss 0.3100")
    assert len(lines) == 6 and log.getvalue() == stream.getvalue() and "\r" not in stream.getvalue()


def test_evaluations_pour_into_the_log_but_not_over_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    tty, log = screen(monkeypatch, 100), io.StringIO()
    console = Console(tty, log=log)
    for step in range(50):
        console.evaluation(step, {"val/loss": 1.0})
    assert len(log.getvalue().splitlines()) == 50 and len(tty.shown()) < 10


def test_the_log_gets_what_was_printed_before_it_was_there() -> None:
    console, log = Console(io.StringIO()), io.StringIO()
    console.line("early")
    console.attach(log)
    console.line("late")
    assert log.getvalue() == "early\nlate\n"


def test_result_line() -> None:
    stream = io.StringIO()
    metrics = {"train/loss": 0.01, "val/loss": 0.2, "val/accuracy": 0.97}
    metrics |= {"test/loss": 0.1, "test/accuracy": 0.981, "test/worst_recall": 0.9431}
    summary = {"status": "finished", "step": 600, "seconds": 3.1, "steps_per_second": 193.2, "metrics": metrics, "run_dir": "outputs/x"}
    Console(stream).result({**summary, "baselines": {"test/majority_accuracy": 0.101}})
    assert stream.getvalue() == (
        "test accuracy 0.9810 (majority class 0.1010, worst class's recall 0.943) · val accuracy 0.9700 · "
        "600 steps in 3.1 s (193 steps/s) · outputs/x\n"
    )
    stream = io.StringIO()
    Console(stream).result({"status": "interrupted", "reason": "SIGINT", "step": 3, "seconds": 75, "metrics": {"train/loss": "nan"}})
    assert stream.getvalue() == "interrupted at step 3 (SIGINT) · loss nan · 3 steps in 1:15\n"
    Console(stream).result({"status": "failed", "metrics": {}, "seconds": None})  # nothing known: still no exception


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_stream_or_log_that_breaks_is_dropped_and_that_is_said() -> None:
    log = io.StringIO()
    console = Console(Broken(), log=log)
    console.line("one")
    console.progress(status())
    assert "nobody reads it any more" in log.getvalue() and log.getvalue().startswith("one\n")
    stream = io.StringIO()
    console = Console(stream, log=Broken())
    console.line("one")
    console.line("two")
    assert stream.getvalue().splitlines()[1:] == ["one", "two"] and "No space left" in stream.getvalue().splitlines()[0]


def test_a_stream_without_our_signs_gets_ascii() -> None:
    raw = io.BytesIO()
    console = Console(io.TextIOWrapper(raw, encoding="ascii"), live=True)
    console.progress(status())
    console.evaluation(1, {"val/loss": 1.0, "val/Ω": 2.0})
    assert b"###" in raw.getvalue() and b"\\u03a9" in raw.getvalue()


def test_numbers_for_people() -> None:
    shown = {0.2134: "0.2134", 2.3: "2.300", 0.0000123: "1.23e-05", 1234567: "1 234 567", 0.0: "0", 123.456: "123.5", 12345.6: "1.23e+04"}
    assert {value: terminal.number(value) for value in shown} == shown
    assert [terminal.number(float(text)) for text in ("nan", "inf", "-inf")] == ["nan", "inf", "-inf"]
    assert [terminal.duration(value) for value in (3.14, 42.2, 125.0, 3725.0, None, float("nan"))] == [
        "3.1 s", "42 s", "2:05", "1:02:05", "?", "?",
    ]  # fmt: skip


def test_a_real_terminal_is_left_as_it_was_found_even_by_a_kill() -> None:
    """In a pseudo-terminal: settings unchanged, cursor never hidden, every colour reset within its write."""
    code = (
        "import os, signal, sys; from dlrun.sinks.console import Console; c = Console(); c.line('hello [/x]', 'warning');"
        "[c.progress({'step': i, 'steps': 9, 'metrics': {'train/loss': 1.0 / (i + 1)}}) for i in range(9)];"
        "sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    main, other = pty.openpty()
    before = termios.tcgetattr(other)
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", code], stdout=other, stdin=other, env=environment, check=False, timeout=120)
    text = os.read(main, 65536).decode()
    assert termios.tcgetattr(other) == before
    os.close(main)
    os.close(other)
    assert "\x1b[33mhello [/x]\x1b[0m" in text and "8/9" in text and "\x1b[?" not in text
    styled = re.findall(r"\x1b\[([0-9;]*)m", text)
    assert styled[1::2] == ["0"] * (len(styled) // 2) and "0" not in styled[::2]
