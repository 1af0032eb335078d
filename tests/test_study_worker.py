"""A worker trains job after job in one process: each as a new process would, each counted once, each failure with its class."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import runs
import studies
import torch

from dlrun import registry, train
from dlrun.errors import UsageError
from dlrun.plugins import load_plugins
from dlrun.rundir import RunDir
from dlrun.session import Session
from dlrun.study.worker import Joined, Lease, check_pins

LEAKY = '''
"""A part that leaves behind whatever it can."""
import os, random
import torch
from torch import nn
from dlrun import register

@register.model
def leaky(in_shape, out_shape, *, width: int = 8):
    noise = torch.randn(out_shape)  # drawn while building: a new process draws the same
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.set_grad_enabled(True)
    torch.manual_seed(random.randrange(99))
    os.environ["LEFT_BEHIND"] = "1"
    nn.modules.module.register_module_forward_hook(lambda module, args, out: out * 1.25 if isinstance(module, nn.Linear) else None)
    net = nn.Sequential(nn.Linear(in_shape[0], out_shape[0], dtype=torch.float32))
    with torch.no_grad():
        net[0].bias += noise.float()
    return net
'''


ALONE = """
import os, sys
import dlrun.wrapup
from dlrun.cli import main
dlrun.wrapup.draw_figures = lambda session: None
code = main()
sys.stdout.flush()
os._exit(code)
"""


def fresh_process(config: Path, folder: Path, *plugin: str) -> dict[str, Any]:
    """The summary of `dlrun train --from config` in a process of its own, with one thread and without figures."""
    words = ["train", "--from", str(config), f"run_dir={folder}", "log.wandb.mode=disabled", *plugin, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ALONE, *words]
    done = subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> studies.Study:
    """Two cells with two seeds, trained by one worker."""
    study = studies.Study(tmp_path_factory.mktemp("calm"), "optimizer.lr=0.01,0.1", "seed=0,1", "train.checkpoint_every=5")
    assert [job["state"] for job in study.work()] == ["finished"] * 4
    return study


def test_a_run_of_a_study_is_that_of_train(finished: studies.Study, tmp_path: Path) -> None:
    """The last of four in a warm process against a process of its own: the same bits, the same config, the same rows."""
    summary = fresh_process(finished.run(1, 1) / "config.yaml", tmp_path / "alone")
    job = finished.ledger.jobs()[3]
    assert job["summary"]["weights_sha256"] == summary["weights_sha256"]
    assert job["value"] == summary["metrics"]["val/accuracy"] and job["summary"]["goal"] == ["val/accuracy", "max"]
    assert runs.rows(finished.run(1, 1)) == runs.rows(tmp_path / "alone")
    assert (finished.run(1, 1) / "config.yaml").read_text() == finished.cells[1].jobs[1].text
    assert job["summary"]["baselines"] == summary["baselines"], "made once, the same for all"


def test_a_part_leaves_nothing_behind_for_the_next_job(tmp_path: Path) -> None:
    plugin = tmp_path / "leaky.py"
    plugin.write_text(LEAKY)
    from dlrun.plugins import load_plugins

    load_plugins([str(plugin)])
    study = studies.Study(tmp_path / "study", "model=leaky", "optimizer.lr=0.01,0.1", "model.width=8", goal=("val/loss", "min"))
    before = torch.get_num_threads(), torch.get_default_dtype()
    try:
        states = study.work()
    finally:
        study.worker.trainer.fresh.again()
    assert [job["state"] for job in states] == ["finished", "finished"], states[0]["reason"]
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before and "LEFT_BEHIND" not in os.environ
    alone = fresh_process(study.run(1) / "config.yaml", tmp_path / "alone", "--plugin", str(plugin))
    assert study.ledger.jobs()[1]["summary"]["weights_sha256"] == alone["weights_sha256"]


def killed_at(study: studies.Study, step: int) -> Any:
    """A worker that dies like a killed one: after `step`, without a word to the ledger."""
    original = Session.after_step

    def after(self: Session, done: int) -> bool:
        kept = original(self, done)
        if done == step:
            raise Killed
        return kept

    class Killed(BaseException):
        pass

    with patch.object(Session, "after_step", after), pytest.raises(Killed):
        study.worker.work()


@pytest.mark.parametrize("step", [3, 12])
def test_a_killed_job_goes_on_from_its_own_checkpoint(step: int, finished: studies.Study, tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "study", "optimizer.lr=0.01,0.1", "seed=0,1", "train.checkpoint_every=5", lease=0.1)
    killed_at(study, step)
    time.sleep(0.2)
    again = study.work()
    for ours, calm in zip(again, finished.ledger.jobs()):
        assert (ours["state"], ours["value"]) == ("finished", calm["value"])
        assert ours["summary"]["weights_sha256"] == calm["summary"]["weights_sha256"]
    assert [job["attempt"] for job in again] == [2, 1, 1, 1]
    assert runs.rows(study.run(0)) == runs.rows(finished.run(0))
    events = [json.loads(line)["event"] for line in (study.run(0) / "events.jsonl").read_text().splitlines()]
    assert events.count("resumed") == (step > 5) and events.count("finished") == 1


def test_a_finished_run_that_nobody_reported_is_not_run_again(tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "study", "optimizer.lr=0.01,0.1", lease=0.1)
    with patch.object(type(study.ledger), "finish", side_effect=SystemError("killed")), pytest.raises(SystemError):
        study.worker.work()
    time.sleep(0.2)
    with patch("dlrun.study.trainer.begin", wraps=train.begin) as begin:
        first, second = study.work()
    assert begin.call_count == 1, "the second cell alone was trained"
    assert first["state"] == second["state"] == "finished" and first["attempt"] == 2
    assert first["value"] == json.loads((study.run(0) / "summary.json").read_text())["metrics"]["val/accuracy"]


def raising(error: Callable[[], BaseException]) -> Any:
    def broken_loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if out.requires_grad:
            raise error()
        return torch.nn.functional.cross_entropy(out, y)

    return broken_loss


@pytest.mark.parametrize(
    ("kind", "words", "error"),
    [
        ("bug", (), lambda: KeyError("mine")),
        ("bug", (), lambda: SystemExit(3)),
        ("bug", (), KeyboardInterrupt),
        ("out_of_memory", (), lambda: torch.OutOfMemoryError("CUDA out of memory")),
        ("out_of_memory", (), lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory")),
        ("machine", (), lambda: OSError(28, "No space left on device", "x")),
        ("config", ("train.max_seconds=1e-9",), None),
        ("config", ("train.eval_splits=[train]",), None),
        ("non_finite", ("optimizer=sgd", "optimizer.lr=1e38", "train.clip_norm=null"), None),
    ],
)
def test_failures_have_their_class(kind: str, words: tuple[str, ...], error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PLUGINS["loss"], "broken_loss", raising(error))
    study = studies.Study(tmp_path / "study", "model.depth=1,2", *(words or ("loss=broken_loss",)), goal=("val/accuracy", "max"))
    first, second = study.work()
    assert first["failure"] == second["failure"] == kind, first["reason"]
    assert first["value"] is None and "\n" not in first["reason"]
    if kind == "bug" and error is not KeyboardInterrupt:
        assert first["signature"] == second["signature"] and "test_study_worker.py" in first["signature"]
        assert "in broken_loss" in first["log"] and first["log"].splitlines()[-1].startswith(type(error()).__name__)
    assert [event["event"] for event in study.said] == ["began", "ended"] * 2


def test_a_signal_saves_and_gives_the_job_back(finished: studies.Study, tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "study", "optimizer.lr=0.01,0.1", "seed=0,1", "train.checkpoint_every=5")
    original = Session.after_step

    def after(self: Session, done: int) -> bool:
        study.stop.signal = "SIGINT" if done == 7 else study.stop.signal
        return original(self, done)

    with patch.object(Session, "after_step", after):
        assert study.worker.work() == 130
    assert [job["state"] for job in study.ledger.jobs()] == ["waiting"] * 4
    assert json.loads((study.run(0) / "summary.json").read_text())["step"] == 7
    study.stop.signal = None
    first = study.work()[0]
    assert first["summary"]["weights_sha256"] == finished.ledger.jobs()[0]["summary"]["weights_sha256"]
    assert [entry["outcome"] for entry in study.ledger.attempts()[:2]] == ["interrupted", "finished"]


def test_a_worker_that_lost_its_lease_stops_and_says_nothing_of_its_result(tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "study", "optimizer.lr=0.01,0.1", "train.steps=100000", lease=0.3)

    def steal(step: int, value: float) -> None:
        study.ledger.died("me", "taken for dead", own_fault=False)
        study.ledger.take("thief", 60)

    job = study.ledger.take("me", 0.3)
    assert job
    with patch.object(study.worker, "_read", lambda job, step, value: steal(step, value)):
        study.worker.do(job)
    assert study.said[-2]["event"] == "lost"
    row = study.ledger.jobs()[0]
    assert (row["state"], row["owner"], row["value"]) == ("running", "thief", None)


def test_a_lease_is_renewed_while_its_job_runs(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(1))
    job = found.take("a", 0.7)
    assert job
    stop = Joined(studies.Stop())
    with Lease(found, job, 0.7, stop) as lease:
        time.sleep(1.4)
        assert found.take("b", 1) is None and not lease.lost and stop.signal is None


def test_a_run_held_by_a_sleeping_worker_is_waited_for(tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "study", "optimizer.lr=0.01,0.1")
    study.run(0).mkdir(parents=True)
    holder = RunDir(study.run(0))
    timer = threading.Timer(1.0, holder.close)
    timer.start()
    assert [job["state"] for job in study.work()] == ["finished"] * 2
    timer.join()
    assert [job["attempt"] for job in study.ledger.jobs()] == [1, 1]


def test_a_folder_with_another_run_is_not_gone_on_with(finished: studies.Study, tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "study", "optimizer.lr=0.02,0.2")
    study.run(0).parent.mkdir()
    shutil.copytree(finished.run(0), study.run(0))
    first, second = study.work()
    assert first["failure"] == "machine" and "holds another run" in first["reason"] and second["state"] == "finished"


def test_unchecked_jobs_say_so(tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "study", "optimizer.lr=0.01,0.1", "checks=fast")
    with study.ledger.engine.begin() as connection:
        connection.exec_driver_sql("update dlrun_jobs set checked = (cell = 0)")
    assert [job["state"] for job in study.work()] == ["finished"] * 2
    said = [(study.run(cell) / "log.txt").read_text() for cell in (0, 1)]
    assert "checks: " in said[0] and "left out" not in said[0]
    assert "checks: left out: the fast checks run for the first cell with such parts" in said[1]


def test_a_plugin_that_changed_since_is_refused(tmp_path: Path) -> None:
    plugin = tmp_path / "pinned.py"
    plugin.write_text("from dlrun import register\n@register.loss\ndef pinned_loss(out, y): ...\n")
    setting = studies.Setting("", "s", str(tmp_path), "me", plugins=(str(plugin),), pins=((str(plugin), "0" * 64),))
    with pytest.raises(UsageError, match=r"pinned\.py has changed since the study began"):
        check_pins(setting)


def test_intermediate_values_are_read(tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "study", "optimizer.lr=0.01,0.1", "train.eval_every=5", goal=("val/loss", "min"))
    first = study.work()[0]
    seen = study.ledger.readings()[first["id"]]
    rows = {row["step"]: row["val/loss"] for row in runs.rows(study.run(0)) if "val/loss" in row}
    assert [step for step, _ in seen] == [0, 5, 10, 15] and all(rows[step] == pytest.approx(value) for step, value in seen)
    assert first["value"] == rows[20]


SOFT = """
from torch import nn
from dlrun import register

@register.model
def soft(in_shape, out_shape):
    return nn.Sequential(nn.Linear(in_shape[0], 16), nn.ReLU(), nn.Linear(16, out_shape[0]), nn.Softmax(1))
"""


def test_a_wild_rate_is_what_a_study_tries_and_wrong_wiring_is_not(tmp_path: Path) -> None:
    study = studies.Study(tmp_path / "wild", "checks=fast", "optimizer.lr=10,0.001")
    assert [job["state"] for job in study.work()] == ["finished", "finished"]
    events = [json.loads(line) for line in (study.run(0) / "events.jsonl").read_text("utf-8").splitlines()]
    assert [event["check"] for event in events if event.get("level") == "error"] == ["step_lowers_loss"]
    (tmp_path / "soft.py").write_text(SOFT, "utf-8")
    load_plugins([str(tmp_path / "soft.py")])
    words = ("dataset=moons", "dataset.n=200", "model=soft", "train.steps=20", "device=cpu", "checks=fast", "optimizer.lr=0.1,0.01")
    with patch.object(studies, "MOONS", ()):
        wrong = studies.Study(tmp_path / "wrong", *words, plugins=(str(tmp_path / "soft.py"),))
    assert {job["state"] for job in wrong.work()} == {"failed"}
