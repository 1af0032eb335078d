"""The copies for W&B and TensorBoard: equal to metrics.jsonl, no step twice, no secret; and whatever dies or hangs there harms nobody."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from copies import OPTIONS, PATIENCE, SECRET, accumulated, clean_home, comparable, cut, finish, kill, new_run, noted, wait_for, write
from PIL import Image

from dlrun.sinks.background import passed_on, start
from dlrun.sinks.tail import Rows, Tail, parsed

ROOT = Path(__file__).parents[1]
KEY = "0123456789abcdef0123456789abcdef01234567"
NAME = "digits/[/x] \x1b[31m s0"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without an account, a secret in the environment."""
    clean_home(tmp_path, monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = new_run(tmp_path / "runs" / "r 1")
    (directory / "config.yaml").write_text("seed: 0\nkey: ${oc.env:MY_TOKEN}\ntrain: {steps: 9, when: 2020-01-01}\n")
    return directory


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows in W&B's file, read by W&B's own tool."""
    records = [json.loads(line) for line in leet(folder, "--json").splitlines()]
    items = [record["history"]["item"] | {"step": record["history"]["step"]["num"]} for record in records if record["type"] == "history"]
    return [{name: value for name, value in item.items() if not name.startswith("_")} for item in items]


def leet(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
    except OSError:
        return True


def test_copies_equal_the_truth_and_hold_no_secret(run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    background = start(run, run / "config.yaml", OPTIONS, True, NAME)
    write(run, range(6))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "train/lo')
        file.flush()
        wait_for(lambda: noted(run).get("step") == 5)
        file.write('ss": 0.125, "time": 0.06}\n')
    write(run, range(7, 10))
    (run / "figures").mkdir()
    Image.new("RGB", (30, 20)).save(run / "figures" / "curves.png")
    finish(run, 9)
    lines = background.finish(PATIENCE)
    assert len(lines) == 2 and lines[0].startswith("TensorBoard: ") and lines[1].startswith("W&B: offline; upload with: dlrun sync '")

    truth = [parsed(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    (folder,) = run.glob("wandb/offline-run-*")
    *rows, last = history(folder)
    assert last["figures/curves._type"] == "image-file"
    rows.append({name: value for name, value in last.items() if not name.startswith("figures/")})
    assert comparable(rows) == comparable([row for row in truth if row])
    shown = json.loads(leet(folder, "--summary", "--json"))
    assert shown["config"] == {"seed": 0, "key": "${oc.env:MY_TOKEN}", "train": {"steps": 9, "when": "2020-01-01"}}
    assert shown["summary"]["best/step"] == 5 and shown["summary"]["events/memorised"] == 4 and shown["summary"]["status"] == "finished"
    assert shown["exit_code"] == 0 and shown["tags"] == ["a"] and shown["name"] == "digits/[/x] \\x1b[31m s0"
    assert scalars(run, "train/loss") == [(r["step"], pytest.approx(r["train/loss"], nan_ok=True)) for r in truth if r]
    everything = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything and KEY.encode() not in everything
    assert capfd.readouterr() == ("", "")


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.compat.proto.event_pb2 import Event

    from dlrun.sinks.tensorboard_copy import records

    events = [Event.FromString(data) for path in sorted(run.glob("tensorboard/events.*")) for data in records(path)]
    images = [value.image for event in events for value in event.summary.value if value.tag == "figures/curves"]
    assert [(image.width, image.height) for image in images] == [(30, 20)]
    return [(event.step, value.simple_value) for event in events for value in event.summary.value if value.tag == tag]


def test_a_killed_feeder_is_named_and_a_resume_sends_no_step_twice_and_leaves_none_out(run: Path) -> None:
    background = start(run, None, OPTIONS, True)
    write(run, range(8))
    wait_for(lambda: noted(run).get("step") == 7)
    kill(background)
    write(run, range(8, 12))
    (line,) = background.finish(PATIENCE)
    assert "copy incomplete" in line and "SIGKILL" in line and "metrics.jsonl" in line
    # the run is interrupted and resumed from its checkpoint of step 4: the rows after it are cut off and come again
    cut(run, 5)
    background = start(None, None, OPTIONS, True)
    background.attach(run, 4)
    write(run, range(5, 15))
    assert any("dlrun sync" in line for line in background.finish(PATIENCE))
    first, second = sorted(run.glob("wandb/offline-run-*"))
    assert [r["step"] for r in history(first) + history(second)] == list(range(15))
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2] == noted(run)["id"]
    assert noted(run)["complete"] and noted(run)["resumed_at"] == [4]
    assert [event.step for event in accumulated(run).Scalars("train/loss")] == list(range(15))


def fake_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'importing')!r}).touch()\n{text}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))


def test_without_the_package_there_is_one_note(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_wandb(tmp_path, monkeypatch, "raise ModuleNotFoundError('no wandb', name='wandb')")
    background = start(run, None, OPTIONS, False)
    write(run, range(3))
    (line,) = background.finish(PATIENCE)
    assert line == "W&B: the package wandb is not installed: pip install wandb, then dlrun sync RUN uploads the run"


@pytest.mark.parametrize("how", ["asleep", "holding the interpreter", "stopped"])
def test_a_hanging_feeder_costs_no_more_than_the_timeout(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    endless = "re.match('(a*)*b', 'a' * 99)"  # a C call that keeps the lock
    fake_wandb(tmp_path, monkeypatch, f"import re, time\n{endless if how.startswith('holding') else 'time.sleep(1e6)'}\n")
    background = start(run, None, OPTIONS, False)
    pid = background.pid
    assert pid is not None
    wait_for((tmp_path / "importing").exists)
    if how == "stopped":
        os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    (line,) = background.finish(1.0)
    assert time.monotonic() - begun < 60, "not for ever, as the feeder"
    if how == "asleep":
        assert "not complete yet (W&B is importing)" in line and f"process {pid}" in line
        os.kill(pid, signal.SIGKILL)
    else:
        assert "did not answer and was stopped" in line
    wait_for(lambda: gone(pid))


def test_the_watchdog_ends_what_lingers(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_wandb(tmp_path, monkeypatch, "import dlrun.sinks.feeder as f, time\nf.LINGER_SECONDS = 0.5\ntime.sleep(1e6)\n")
    background = start(run, None, OPTIONS, False)
    pid = background.pid
    assert pid is not None
    wait_for((tmp_path / "importing").exists)
    background.finish(0.1)
    wait_for(lambda: gone(pid))


@pytest.mark.parametrize("lacking", ["account", "network"])
def test_what_cannot_go_online_is_recorded_offline(run: Path, monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    if lacking == "network":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    background = start(run, None, {**OPTIONS, "mode": "online", "log_model": True}, False)
    write(run, range(3))
    (line,) = background.finish(PATIENCE)
    assert "dlrun sync" in line and "online did not work" in line and ("WANDB_API_KEY" in line) == (lacking == "account")
    assert not list(run.glob("wandb/run-*")), "the attempt left nothing behind"
    (folder,) = run.glob("wandb/offline-run-*")
    assert [r["step"] for r in history(folder)] == [0, 1, 2]


def test_the_copy_is_completed_when_the_training_dies(run: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from dlrun.sinks.background import start\n"
        f"b = start(Path(sys.argv[1]), None, {OPTIONS!r}, False); print(b.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, str(run)], env=environment, capture_output=True, text=True, check=False)
    write(run, range(4))
    wait_for(lambda: gone(int(done.stdout)))
    assert noted(run)["complete"] and noted(run)["step"] == 3


def test_nothing_is_written_for_a_run_that_never_was(tmp_path: Path) -> None:
    directory = tmp_path / "never"
    background = start(directory, None, OPTIONS, True)
    assert background.finish(PATIENCE) == [] and not directory.exists()
    background = start(None, None, OPTIONS, True)
    assert background.finish(PATIENCE) == ["W&B and TensorBoard: nothing was copied, its process was never told which run to copy"]
    start(None, None, OPTIONS, False)  # dropped: no warning of a process still running


def test_nothing_runs_where_nothing_is_wanted() -> None:
    for options in (None, {**OPTIONS, "mode": "disabled"}):
        background = start(Path("x"), None, options, False, "x")
        assert background.pid is None and background.finish(0) == []


def test_what_cannot_be_started_is_a_note(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(run / "missing-python"))
    (line,) = start(run, None, OPTIONS, False).finish(1)
    assert "could not be started" in line


def test_the_feeder_gets_what_wandb_needs_and_nothing_else() -> None:
    needed = {"PATH": "p", "WANDB_API_KEY": "k", "https_proxy": "h", "LC_ALL": "C"}
    others = {
        "AWS_SECRET_ACCESS_KEY": "s",
        "MY_TOKEN": "s",
        "PYTHONWARNINGS": "error",
        "WANDB_SERVICE": "2-99-tcp",
        "WANDB_CORE_DEBUG": "1",
    }
    assert passed_on({**needed, **others}) == needed


def test_histograms_join_the_row_of_their_step(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 10, "a": 2}\n{"step": 20}\n')
    (tmp_path / "histograms.jsonl").write_text("".join(f'{{"step": {step}, "h": {{}}}}\n' for step in (5, 10, 15, 25)))
    rows = Rows(tmp_path, 1)
    assert list(rows.read()) == [[{"step": 5, "h": {}}, {"step": 10, "h": {}, "a": 2}, {"step": 15, "h": {}}, {"step": 20}]]
    assert list(rows.read()) == []
    assert list(rows.read(over=True)) == [[{"step": 25, "h": {}}]]


def test_tail_reads_whole_lines_only(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "m.jsonl")
    assert list(tail.read()) == []
    with open(tmp_path / "m.jsonl", "ab", buffering=0) as file:
        file.write(b'{"step": 1, "a": "inf"}\nno json\n[1]\n{"step"')
        assert list(tail.read()) == [[{"step": 1, "a": math.inf}]]
        assert list(tail.read()) == []
        file.write(b": 2}\n")
        assert list(tail.read()) == [[{"step": 2}]]
