"""The driver with real worker processes: killed, interrupted, joined, and stopped where going on makes no sense."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import studies

from dlrun.sinks.console import Console
from dlrun.study.asking import ask
from dlrun.study.engine import Means, run_study
from dlrun.study.owners import is_gone, owner_of
from dlrun.study.pool import Pool, gpus, thread_budget

WORDS = (*studies.MOONS[:-3], "checks=none", "device=cpu", "optimizer.lr=0.003,0.01,0.1", "seed=0,1")
LONG = (*WORDS, "train.steps=200", "train.checkpoint_every=40")
DRIVER = """
import sys
from pathlib import Path
from dlrun.sinks.console import Console
from dlrun.study.asking import ask
from dlrun.study.engine import Means, run_study
from dlrun.study.pool import Pool
asked = ask(sys.argv[2:], {})
found, code = run_study(asked.question, asked.cells, Path(sys.argv[1]), None, None, Console(), means=Means(lease=3.0), pool=Pool(1, 1))
sys.exit(code)
"""


def study(folder: Path, *words: str, workers: int = 2, plugin: str | None = None) -> tuple[dict[str, Any], int, str]:
    """Run a study here; returns the document, the exit code, and what was printed."""
    screen = io.StringIO()
    asked = ask(words, {})
    means = Means(plugins=(plugin,) if plugin else (), lease=3.0)
    pool = Pool(workers, 1)
    found, code = run_study(asked.question, asked.cells, folder, None, None, Console(stream=screen, live=False), means=means, pool=pool)
    return found, code, screen.getvalue()


def driver(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A driver with one worker in a process of its own."""
    command = [sys.executable, "-c", DRIVER, str(folder), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder.parent)


def table(folder: Path) -> list[dict[str, str]]:
    """results.csv without what differs from run to run."""
    with open(folder / "results.csv", newline="") as file:
        return [{key: row[key] for key in row if key not in ("attempts", "seconds", "run")} for row in csv.DictReader(file)]


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "study.db", timeout=10)) as connection:
        return connection.execute(query).fetchall()


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except sqlite3.OperationalError:
            pass
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def running(folder: Path) -> list[int]:
    """Process numbers of workers that train."""
    if not (folder / "study.db").is_file():
        return []
    return [int(owner.split("/")[1]) for (owner,) in rows(folder, "select owner from dlrun_jobs where state = 'running'")]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("studies") / "calm"
    found, code, said = study(folder, *LONG)
    assert code == 0
    return folder, found, said


def test_a_grid_is_run_to_its_table(calm: tuple[Path, dict[str, Any], str]) -> None:
    folder, found, said = calm
    assert [cell["state"] for cell in found["cells"]] == ["finished"] * 3 and found["best"] is not None
    assert all(
        json.loads((Path(run) / "summary.json").read_text())["status"] == "finished" for cell in found["cells"] for run in cell["runs"]
    )
    assert len({owner for (owner,) in rows(folder, "select owner from dlrun_attempts")}) <= 2
    assert rows(folder, "select max(attempt), count(*) from dlrun_jobs") == [(1, 6)]
    assert "study calm" in said and "val/accuracy" in said and "± 95 %" in said


def test_the_same_command_again_repeats_nothing(calm: tuple[Path, dict[str, Any], str]) -> None:
    folder, before, _ = calm
    found, code, _ = study(folder, *LONG)
    assert code == 0 and found["cells"] == before["cells"]
    assert rows(folder, "select max(attempt), count(*) from dlrun_jobs") == [(1, 6)]


def test_killed_workers_and_drivers_change_no_number(calm: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    """A worker is killed at work, then the driver, then both; the study that is begun again each time ends in the same table."""
    folder = tmp_path / "wild"
    first = driver(folder, *LONG)
    os.kill(wait_for(lambda: running(folder))[0], signal.SIGKILL)
    wait_for(lambda: rows(folder, "select 1 from dlrun_attempts where outcome = 'killed by SIGKILL'"))
    wait_for(lambda: running(folder))
    first.kill()
    first.wait()
    second = driver(folder, *LONG)
    wait_for(lambda: rows(folder, "select 1 from dlrun_jobs where state = 'finished'"))
    both = wait_for(lambda: running(folder))
    second.kill()
    for process in both:
        os.kill(process, signal.SIGKILL)
    second.wait()
    _, code, _ = study(folder, *LONG)
    assert code == 0 and table(folder) == table(calm[0])
    assert rows(folder, "select count(*) from dlrun_attempts where outcome = 'finished'") == [(6,)]
    for run in (folder / "runs").iterdir():
        assert (run / "events.jsonl").read_text().count('"event": "finished"') == 1


def test_ctrl_c_saves_and_a_second_terminal_joins(calm: tuple[Path, dict[str, Any], str], tmp_path: Path) -> None:
    folder = tmp_path / "joined"
    first = driver(folder, *LONG)
    wait_for(lambda: running(folder))
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    assert rows(folder, "select distinct state from dlrun_jobs where state = 'running'") == []
    assert rows(folder, "select outcome from dlrun_attempts where outcome != 'finished'") in ([], [("interrupted",)])
    two = [driver(folder, *LONG), driver(folder, *LONG)]
    assert [process.wait(100) for process in two] == [0, 0]
    assert table(folder) == table(calm[0])


BROKEN = """
import torch
from dlrun import register

@register.loss
def broken(out, y, *, at: float = 0.0):
    if out.requires_grad and at > 0.5:
        raise KeyError("at the bottom")
    return torch.nn.functional.cross_entropy(out, y)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    (tmp_path / "broken.py").write_text(BROKEN)
    from dlrun.plugins import load_plugins

    load_plugins([str(tmp_path / "broken.py")])
    return str(tmp_path / "broken.py")


def test_a_failure_is_shown_and_the_rest_goes_on(tmp_path: Path, plugin: str) -> None:
    words = (*studies.MOONS, "loss=broken", "loss.at=0.0,1.0,0.1,2.0,0.2")
    found, code, said = study(tmp_path / "study", *words, workers=1, plugin=plugin)
    assert code == 1 and [cell["state"] for cell in found["cells"]] == ["finished", "failed", "finished", "failed", "finished"]
    assert "cell 1 seed 0 (loss.at=1.0): bug: KeyError: 'at the bottom'" in said and "in broken" in said
    assert "failed alike" not in said


def test_a_bug_that_all_meet_stops_the_study_after_the_second(tmp_path: Path, plugin: str) -> None:
    words = (*studies.MOONS, "loss=broken", "loss.at=1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0")
    found, code, said = study(tmp_path / "study", *words, workers=1, plugin=plugin)
    states = [cell["state"] for cell in found["cells"]]
    assert code == 1 and states[:2] == ["failed"] * 2 and "waiting" in states
    assert "cell 0 seed 0 and cell 1 seed 0 failed alike" in said


def test_a_plugin_that_workers_cannot_load_ends_the_study(tmp_path: Path, plugin: str) -> None:
    words = (*studies.MOONS, "loss=broken", "loss.at=0.0,0.1")
    asked = ask(words, {}, plugins=[(plugin, "0" * 64)])
    screen = io.StringIO()
    console, means = Console(stream=screen, live=False), Means(plugins=(plugin,))
    _, code = run_study(asked.question, asked.cells, tmp_path / "study", None, None, console, means=means, pool=Pool(1, 1))
    assert code == 2 and "broken.py has changed since the study began" in screen.getvalue()


@pytest.mark.slow
def test_a_job_that_kills_its_workers_fails_and_the_rest_goes_on(tmp_path: Path) -> None:
    text = BROKEN.replace('raise KeyError("at the bottom")', "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    (tmp_path / "deadly.py").write_text(text.replace("def broken", "def deadly"))
    from dlrun.plugins import load_plugins

    load_plugins([str(tmp_path / "deadly.py")])
    words = (*studies.MOONS, "loss=deadly", "loss.at=1.0,0.1")
    found, code, said = study(tmp_path / "study", *words, workers=1, plugin=str(tmp_path / "deadly.py"))
    assert code == 1 and [cell["state"] for cell in found["cells"]] == ["failed", "finished"]
    assert found["failures"][0]["class"] == "machine" and said.count("killed by SIGSEGV") >= 3


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlrun.study.pool.cores", lambda: 8)
    assert [thread_budget(n, {}) for n in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    assert thread_budget(2, {"OMP_NUM_THREADS": "2"}) == 2 and thread_budget(2, {"OMP_NUM_THREADS": "16"}) == 4


def test_gpus_are_those_the_driver_lists(tmp_path: Path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert gpus({}, str(tmp_path)) == ["0", "1"] and gpus({}, str(tmp_path / "none")) == []
    assert gpus({"CUDA_VISIBLE_DEVICES": "3,5"}, str(tmp_path)) == ["3", "5"]
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}, str(tmp_path)) == gpus({"CUDA_VISIBLE_DEVICES": "-1"}, str(tmp_path)) == []


def test_a_process_that_is_gone_is_known_by_its_name() -> None:
    process = subprocess.Popen(["sleep", "60"])
    owner = owner_of(process.pid)
    assert not is_gone(owner) and not is_gone(owner_of(os.getpid()))
    process.kill()
    process.wait()
    assert is_gone(owner)
    assert not is_gone("elsewhere.0.0/1/1"), "of other machines nothing is known"
    assert is_gone(f"{owner_of(os.getpid()).rpartition('/')[0]}/1"), "another process got its number"
