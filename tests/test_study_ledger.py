"""The ledger of a study: a job is taken once, its outcome counts for the live attempt only, whoever dies."""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import studies

from dlrun.cli import main
from dlrun.errors import MissingError, UsageError
from dlrun.study import tables
from dlrun.study.joining import ledger_of
from dlrun.study.ledger import MOST_CRASHES, MOST_LOST, Failure, Ledger

FILE_SYSTEM = tables.file_system
BRIEF = 0.05
"""A lease that runs out while a test looks."""


def test_a_study_is_begun_once_and_joined_by_who_asks_the_same(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, question={"seeds": [0, 1], "goal": "val/loss"})
    assert found.open({"seeds": [0, 1], "goal": "val/loss"}, str({"seeds": [0, 1], "goal": "val/loss"})) is False
    with pytest.raises(UsageError, match=r"asked otherwise: seeds 0,1, now 0;") as caught:
        found.open({"seeds": [0], "goal": "val/loss"}, "other")
    assert len(caught.value.lines) == 1


def test_cells_are_entered_once_and_taken_in_their_order(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path)
    assert found.add(studies.cells(3, seeds=2), lambda cell: cell.number == 1) == 6
    assert found.add(studies.cells(4, seeds=2)) == 2, "those known stay as they are"
    taken = [found.take("a", 60) for _ in range(9)]
    assert [(job.cell, job.seed) for job in taken if job] == [(1, 0), (0, 0), (0, 1), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert [job.checked for job in taken if job] == [True, *[False] * 5, True, False], "those that are checked first"
    assert taken[-1] is None and found.open_jobs() == 8


def test_each_job_goes_to_one_of_many(tmp_path: Path) -> None:
    studies.ledger(tmp_path, studies.cells(40)).close()
    taken: list[int] = []

    def take() -> None:
        own = Ledger(tables.sqlite_url(tmp_path / "study.db"), "study", make=False)
        while job := own.take("a", 60):
            taken.append(job.id)
        own.close()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 40 and set(Counter(taken).values()) == {1}


def test_a_lease_that_ran_out_fences_its_attempt_off(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(1))
    first = found.take("a", BRIEF)
    time.sleep(3 * BRIEF)
    second = found.take("b", 60)
    assert first and second and second.id == first.id and (first.attempt, second.attempt) == (1, 2)
    assert not found.renew(first.id, 1, 60)
    assert not found.read(first.id, 1, 5, 0.5)
    assert not found.finish(first.id, 1, 0.1, {})
    assert not found.fail(first.id, 1, Failure("bug", "late"))
    assert not found.release(first.id, 1, "late")
    assert found.jobs()[0]["state"] == "running"
    assert found.renew(second.id, 2, 60) and found.finish(second.id, 2, 0.9, {"goal": ["val/loss", "min"]})
    assert found.finish(second.id, 2, 0.9, {}), "an answer that got lost: said twice, entered once"
    assert not found.finish(first.id, 1, 0.1, {})
    job = found.jobs()[0]
    assert (job["state"], job["value"], found.open_jobs()) == ("finished", 0.9, 0)
    assert [entry["outcome"] for entry in found.attempts()] == ["its lease ran out", "finished"]


def test_a_renewed_lease_does_not_run_out(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(1))
    job = found.take("a", BRIEF)
    assert job and found.renew(job.id, job.attempt, 60)
    time.sleep(3 * BRIEF)
    assert found.take("b", 60) is None


def test_what_is_given_back_is_taken_again(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(1))
    for attempt in range(1, MOST_LOST + 5):
        job = found.take("a", 60)
        assert job and job.attempt == attempt and found.release(job.id, attempt, "interrupted"), "as often as one likes"


@pytest.mark.parametrize(("own", "most"), [(True, MOST_CRASHES), (False, MOST_LOST)])
def test_a_job_that_its_workers_die_of_fails(own: bool, most: int, tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(1))
    for attempt in range(1, most + 1):
        assert found.jobs()[0]["state"] == "waiting"
        job = found.take("a", 60)
        assert job and job.attempt == attempt
        assert found.died("b", "x", own_fault=own) == []
        assert found.died("a", "killed by SIGSEGV", own_fault=own) == [(0, 0)]
    row = found.jobs()[0]
    assert (row["state"], row["failure"]) == ("failed", "machine") and "SIGSEGV" in row["reason"]


def test_failed_jobs_are_tried_again_behind_the_others(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(3))
    for kind in ("bug", "non_finite"):
        job = found.take("a", 60)
        assert job and found.fail(job.id, job.attempt, Failure(kind, "reason", "where", "log"))
    assert found.retry(("bug", "machine")) == 1
    assert [job.cell for job in iter(lambda: found.take("a", 60), None) if job] == [2, 0]
    assert [job["state"] for job in found.jobs()] == ["running", "failed", "running"]


def test_readings_of_steps_that_run_again_are_replaced(tmp_path: Path) -> None:
    found = studies.ledger(tmp_path, studies.cells(1))
    job = found.take("a", 60)
    assert job
    for step, value in ((0, 0.1), (10, 0.2), (20, 0.3), (10, 0.25)):
        assert found.read(job.id, 1, step, value)
    assert found.readings() == {job.id: [(0, 0.1), (10, 0.25)]}
    assert found.newest() == {job.id: (10, 0.25)}


def test_the_clock_is_the_databases(tmp_path: Path) -> None:
    assert abs(studies.ledger(tmp_path).clock() - time.time()) < 5


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    here = str(tmp_path.resolve())
    spaced = f"{here}/a b"
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {here} nfs4 rw 0 0\ndisk {spaced.replace(' ', chr(92) + '040')} tmpfs rw 0 0\n")
    assert tables.file_system(here, str(mounts)) == "nfs4"
    assert tables.file_system(f"{here}/deeper", str(mounts)) == "nfs4"
    assert tables.file_system(f"{here}x", str(mounts)) == "ext4"
    assert tables.file_system(spaced, str(mounts)) == "tmpfs"
    assert tables.file_system(here, str(tmp_path / "none")) is None


def test_a_network_disk_is_refused_for_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "file_system", lambda folder: "nfs4")
    with pytest.raises(UsageError, match=r"network disk \(nfs4\).*--storage postgresql") as caught:
        tables.connect(tables.sqlite_url(tmp_path / "study.db"))
    assert len(caught.value.lines) == 1 and not list(tmp_path.iterdir())


def test_a_sweep_on_a_network_disk_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the list of mounts of a machine whose working folder is on NFS."""
    mounts = tmp_path / "mounts"
    monkeypatch.chdir(tmp_path)
    for kind in ("nfs4", "fuse.sshfs", "lustre", "ext4"):
        mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {tmp_path.resolve()} {kind} rw 0 0\n")
        monkeypatch.setattr(tables, "file_system", partial(FILE_SYSTEM, mounts=str(mounts)))
        if kind == "ext4":
            assert ledger_of(tmp_path / "outputs", None).startswith("sqlite:///")
            continue
        assert main(["sweep", *studies.MOONS, "seed=0,1"]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and f"network disk ({kind})" in lines[0] and "--storage postgresql://USER@HOST/DATABASE" in lines[0]
        assert not (tmp_path / "outputs").exists()


def test_addresses_that_cannot_be_are_one_line(tmp_path: Path) -> None:
    for url in ("nonsense", "nosuch://host/db"):
        with pytest.raises(UsageError, match="--storage") as caught:
            tables.connect(url)
        assert len(caught.value.lines) == 1 and "\n" not in caught.value.lines[0]
    with pytest.raises(MissingError, match="does not answer"):
        tables.connect(tables.sqlite_url(tmp_path / "absent" / "study.db"))


def test_a_database_that_is_away_is_asked_again_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy as sa

    calls = []

    def busy() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise sa.exc.OperationalError("", None, Exception("database is locked"))
        return 7

    assert tables.patiently(busy) == 7
    monkeypatch.setattr(tables, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(MissingError, match="cannot be used: database or disk is full"):
        tables.patiently(lambda: (_ for _ in ()).throw(sa.exc.OperationalError("", None, Exception("database or disk is full"))))
