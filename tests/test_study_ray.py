"""Workers as Ray actors: the numbers of local ones, an actor that is killed is replaced, and what cannot work is refused in one line."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import studies
from architecture_rules import ROOT

from dlrun.cli import main
from dlrun.errors import UsageError
from dlrun.study import ray_pool
from dlrun.study.aside import Aside
from dlrun.study.ray_actor import Actor

HAVE_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAVE_RAY, reason="Ray is not installed (pip install 'dlrun[ray]'): the ray backend is NOT tested")
WORDS = ("sweep", *studies.MOONS[:-3], "checks=none", "device=cpu", "log.wandb.mode=disabled", "optimizer.lr=0.01,0.1", "seed=0,1")
LONG = (*WORDS, "train.steps=150", "train.checkpoint_every=30", "--json")


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    """`dlrun` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "dlrun", *words]
    return subprocess.Popen(call, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def sums(folder: Path) -> dict[str, str]:
    """The weights of every run of a study."""
    return {path.parent.name: json.loads(path.read_text())["weights_sha256"] for path in sorted(folder.glob("runs/*/summary.json"))}


def rows(file: Path, query: str) -> list[Any]:
    try:
        with closing(sqlite3.connect(file, timeout=10)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def raylets(driver: int) -> list[str]:
    """Ray's processes of a driver: its number ends the name of their session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        found += [line] if "/raylet" in line and f"_{driver}/" in line else []
    return found


@pytest.mark.slow
@needs_ray
def test_ray_gives_the_bits_of_local_workers_and_a_killed_actor_is_replaced(tmp_path: Path) -> None:
    """The same study on two local workers and on two actors, one of which is killed at work."""
    local, far = command(tmp_path, *LONG, "--workers", "2", "--name", "local"), None
    said, wrong = local.communicate(timeout=120)
    assert local.returncode == 0, wrong
    far = command(tmp_path, *LONG, "--workers", "2", "--name", "far", "--backend", "ray")
    ledger = tmp_path / "outputs" / "sweeps" / "far" / "study.db"
    deadline = time.monotonic() + 90
    while not (owners := rows(ledger, "select owner from dlrun_jobs where state = 'running'") if ledger.is_file() else []):
        assert time.monotonic() < deadline and far.poll() is None
        time.sleep(0.02)
    worker = int(owners[0][0].split("/")[1])
    assert raylets(far.pid), "while it runs there is one"
    actor = parent_of(worker)
    assert "ray::" in Path(f"/proc/{actor}/cmdline").read_text(), "a worker is the child of an actor"
    os.kill(actor, signal.SIGKILL)
    said_far, wrong = far.communicate(timeout=120)
    assert far.returncode == 0, wrong
    assert "a worker ended in cell" in wrong, "what was lost is told"
    assert (
        sums(tmp_path / "outputs/sweeps/far") == sums(tmp_path / "outputs/sweeps/local") and len(sums(tmp_path / "outputs/sweeps/far")) == 4
    )
    values = [[(cell["params"], cell["value"]) for cell in json.loads(text)["cells"]] for text in (said, said_far)]
    assert values[0] == values[1]
    assert len(rows(ledger, "select distinct owner from dlrun_attempts")) >= 2
    assert max(rows(ledger, "select attempt from dlrun_jobs"))[0] >= 2
    assert raylets(far.pid) == [], "a Ray of its own ends with the study"


@pytest.mark.slow
@needs_ray
def test_ctrl_c_saves_what_actors_do_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = (*LONG, "--workers", "1", "--name", "stopped", "--backend", "ray")
    first = command(tmp_path, *words)
    ledger = tmp_path / "outputs" / "sweeps" / "stopped" / "study.db"
    deadline = time.monotonic() + 90
    while not (ledger.is_file() and rows(ledger, "select 1 from dlrun_jobs where state = 'running'")):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    _, wrong = first.communicate(timeout=60)
    assert first.returncode == 130, wrong
    assert rows(ledger, "select count(*) from dlrun_jobs where state = 'running'") == [(0,)]
    again = command(tmp_path, *words[:-2])  # on local workers
    _, wrong = again.communicate(timeout=100)
    assert again.returncode == 0, wrong
    assert rows(ledger, "select count(*) from dlrun_attempts where outcome = 'finished'") == [(4,)]


class FakeRay:
    """A cluster of this machine and perhaps another one."""

    def __init__(self, *others: str, cpus: int = 4, gpus: int = 0) -> None:
        self.hosts, self.cpus, self.gpus = ("here", *others), cpus, gpus

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"Alive": True, "NodeID": name, "NodeManagerAddress": name, "NodeManagerHostname": name, "Resources": {"CPU": float(self.cpus)}}
            for name in self.hosts
        ]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "here")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cpus * len(self.hosts)), "GPU": float(self.gpus)}


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been asked of Ray: (workers, threads, GPUs each, spread)."""
    asked: list[Any] = []
    monkeypatch.setattr(ray_pool, "RayPool", lambda count, threads, gpus, spread: asked.append((count, threads, gpus, spread)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return asked


def test_another_machine_needs_a_server(pools: list[Any]) -> None:
    with pytest.raises(
        UsageError, match=r"other machines \(far\), which cannot reach a SQLite file.*--storage postgresql.*output_root"
    ) as caught:
        ray_pool._fitting(FakeRay("far"), None, "auto", own=False, server=False)
    assert len(caught.value.lines) == 1 and pools == []
    ray_pool._fitting(FakeRay("far"), None, "auto", own=False, server=True)
    assert pools == [(8, 1, 0.0, True)]


def test_a_cluster_is_shared_out(pools: list[Any]) -> None:
    ray_pool._fitting(FakeRay(cpus=8), 2, "auto", own=False, server=False)
    ray_pool._fitting(FakeRay(cpus=8, gpus=2), None, "auto", own=False, server=False)
    ray_pool._fitting(FakeRay(cpus=8, gpus=2), 8, "cuda", own=False, server=False)
    ray_pool._fitting(FakeRay(cpus=8, gpus=2), None, "cpu", own=False, server=False)
    assert pools == [(2, 4, 0.0, False), (2, 4, 1.0, False), (8, 1, 0.25, False), (8, 1, 0.0, False)]
    with pytest.raises(UsageError, match="--workers 9: the Ray cluster has 8 CPUs"):
        ray_pool._fitting(FakeRay(cpus=8), 9, "auto", own=False, server=False)


def test_a_folder_that_is_not_shared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor looks for the driver's file in the study's folder before it begins."""
    monkeypatch.setattr("dlrun.study.ray_actor.PATIENCE_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    actor = Actor(1, {}, str(tmp_path))
    actor.tell({"folder": str(tmp_path / "elsewhere")}, ".ray-proof")
    said = actor.read()
    assert (
        said is not None and said[0]["event"] == "error" and "output_root must lie on a disk that all of them share" in said[0]["lines"][0]
    )
    assert actor.read() is None and actor.end()[0] == -signal.SIGKILL


def refused(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    assert main([*WORDS, *words]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and not Path("outputs").exists()
    return lines[0]


def test_backends_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--backend slurm is not part of this version" in refused(["--backend", "slurm"], capsys)
    assert "expected local or ray" in refused(["--backend", "rey"], capsys)
    assert "--ray-address has no effect without --backend ray" in refused(["--ray-address", "auto"], capsys)
    if not HAVE_RAY:
        return
    assert "expected HOST:PORT" in refused(["--backend", "ray", "--ray-address", "nowhere"], capsys)
    assert "no Ray answers at 127.0.0.1:1" in refused(["--backend", "ray", "--ray-address", "127.0.0.1:1"], capsys, 3)
    assert "Ray Client is not used" in refused(["--backend", "ray", "--ray-address", "ray://h:10001"], capsys)


def test_a_ray_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'dlrun[ray]'" in refused(["--backend", "ray"], capsys, 3)


def test_what_threads_of_ray_print_is_kept_off_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    aside = Aside("ray_")
    try:
        for name in ("ray_listen_error_messages", "refresh"):
            thread = threading.Thread(target=print, args=(f"from {name}",), name=name)
            thread.start()
            thread.join()
    finally:
        kept = aside.end()
    print("after")
    assert capsys.readouterr().out == "from refresh\nafter\n" and kept == "from ray_listen_error_messages\n"


def test_studies_without_ray_do_not_import_it() -> None:
    code = "import sys, dlrun.study.engine, dlrun.study.worker, dlrun.cli.sweep, dlrun.study.ray_actor; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
