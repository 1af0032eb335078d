"""A study whose ledger is a real PostgreSQL: drivers that begin at once, fencing, killed workers, the table of SQLite, and no password."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import postgres_server
import pytest
import studies
from architecture_rules import ROOT
from postgres_server import PASSWORD, QUOTED, USER, Server

from dlrun import redact
from dlrun.cli import main
from dlrun.errors import MissingError, UsageError
from dlrun.study import address, joining
from dlrun.study.address import conceal, read_address, secrets_of, shown
from dlrun.study.ledger import Failure, Ledger
from dlrun.study.plan import Question

HAVE = postgres_server.binaries() is not None and importlib.util.find_spec("psycopg") is not None
needs_server = pytest.mark.skipif(not HAVE, reason="PostgreSQL (apt-get install postgresql) or psycopg is absent: the server is NOT tested")
WORDS = ("sweep", *studies.MOONS[:-3], "checks=none", "device=cpu", "log.wandb.mode=disabled", "optimizer.lr=0.003,0.01,0.1", "seed=0,1")
LONG = (*WORDS, "train.steps=150", "train.checkpoint_every=30", "--name", "study", "--workers", "1", "--json")
SPELLINGS = (PASSWORD, QUOTED)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


@pytest.fixture
def made(server: Server, request: pytest.FixtureRequest) -> str:
    """A new database; its name."""
    name = f"db{abs(hash(request.node.name)) % 10**9}"
    server.make(name)
    return name


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "dlrun", *words]
    return subprocess.Popen(call, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def together(count: int, do: Callable[[int], Any]) -> list[Any]:
    """What `do` gives in so many threads that begin at once; an error of one is raised."""
    gate, found = threading.Barrier(count), list[Any]()

    def one(number: int) -> None:
        gate.wait()
        try:
            found.append(do(number))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found


# -- the ledger


@needs_server
def test_drivers_that_begin_at_once_enter_every_job_once_and_take_it_once(server: Server, made: str) -> None:
    """Eight of them, on an empty database: tables, study, cells; then the jobs."""

    def begin(number: int) -> tuple[bool, int, list[int]]:
        ledger = Ledger(server.url(made), "study")
        new = ledger.open({"space": "one"}, "one")
        entered = ledger.add(studies.cells(12, seeds=2))
        taken = []
        while job := ledger.take(f"owner{number}", 60):
            taken.append(job.id)
            assert ledger.finish(job.id, job.attempt, 0.5, {})
        ledger.close()
        return new, entered, taken

    found = together(8, begin)
    assert sum(new for new, _, _ in found) == 1 and sorted(entered for _, entered, _ in found) == [0] * 7 + [24]
    counts = Counter(job for _, _, taken in found for job in taken)
    assert len(counts) == 24 and set(counts.values()) == {1}
    assert server.run(made, "select count(*), max(attempt) from dlrun_jobs where state = 'finished'") == [(24, 1)]


@needs_server
def test_a_lease_that_ran_out_fences_its_attempt_off(server: Server, made: str) -> None:
    ledger = Ledger(server.url(made), "study")
    ledger.open({"space": "one"}, "one")
    ledger.add(studies.cells(1))
    first = ledger.take("a", 0.05)
    time.sleep(0.15)
    second = ledger.take("b", 60)
    assert first and second and second.id == first.id and (first.attempt, second.attempt) == (1, 2)
    assert not ledger.renew(first.id, 1, 60) and not ledger.read(first.id, 1, 5, 0.5)
    assert not ledger.finish(first.id, 1, 0.1, {}) and not ledger.fail(first.id, 1, Failure("bug", "late"))
    assert ledger.renew(second.id, 2, 60) and ledger.finish(second.id, 2, 0.9, {})
    assert not ledger.finish(first.id, 1, 0.1, {})
    assert ledger.jobs()[0]["value"] == 0.9 and [entry["outcome"] for entry in ledger.attempts()] == ["its lease ran out", "finished"]
    assert abs(ledger.clock() - time.time()) < 60
    ledger.close()


@needs_server
def test_a_connection_that_is_cut_is_made_again(server: Server, made: str) -> None:
    ledger = Ledger(server.url(made), "study")
    ledger.open({"space": "one"}, "one")
    ledger.add(studies.cells(1))
    server.run("postgres", f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{made}'")
    assert ledger.take("a", 60) is not None and len(ledger.jobs()) == 1
    ledger.close()


# -- the whole


def table(folder: Path) -> list[dict[str, str]]:
    """results.csv without what differs from run to run."""
    with open(folder / "outputs/sweeps/study/results.csv", newline="") as file:
        return [{key: row[key] for key in row if key not in ("attempts", "seconds", "run")} for row in csv.DictReader(file)]


def sums(folder: Path) -> dict[str, str]:
    runs = (folder / "outputs/sweeps/study/runs").iterdir()
    return {run.name: json.loads((run / "summary.json").read_text())["weights_sha256"] for run in sorted(runs)}


def exposed(folder: Path) -> list[str]:
    """Files below `folder`, and command lines of processes, in which the password stands."""
    places = [str(path) for path in folder.rglob("*") if path.is_file() and any(word.encode() in path.read_bytes() for word in SPELLINGS)]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        places += [path.parent.name] if b"dlrun" in line and any(word.encode() in line for word in SPELLINGS) else []
    return places


@needs_server
def test_two_terminals_and_a_killed_worker_end_in_the_table_of_sqlite(server: Server, made: str, tmp_path: Path) -> None:
    """Two drivers on PostgreSQL with the password typed, a worker of one killed at work: SQLite's numbers, and the password nowhere."""
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    calm.mkdir()
    wild.mkdir()
    words = (*LONG, "--storage", server.url(made))
    two = [command(wild, *words), command(wild, *words)]
    alone = command(calm, *LONG)
    deadline = time.monotonic() + 90
    owners: list[Any] = []
    while not owners:
        assert time.monotonic() < deadline and all(process.poll() is None for process in two), [p.communicate() for p in two]
        time.sleep(0.05)
        if server.run(made, "select 1 from information_schema.tables where table_name = 'dlrun_readings'"):
            owners = server.run(made, "select owner from dlrun_jobs where state = 'running'")
    seen = exposed(wild)
    os.kill(int(owners[0][0].split("/")[1]), signal.SIGKILL)
    said = [process.communicate(timeout=120) for process in [*two, alone]]
    assert [process.returncode for process in [*two, alone]] == [0, 0, 0], said
    assert table(wild) == table(calm) and sums(wild) == sums(calm) and len(sums(wild)) == 6
    documents = [json.loads(out) for out, _ in said]
    assert [cell["value"] for cell in documents[0]["cells"]] == [cell["value"] for cell in documents[2]["cells"]]
    assert server.run(made, "select count(*) from dlrun_attempts where outcome = 'finished'") == [(6,)]
    assert server.run(made, "select max(attempt) from dlrun_jobs")[0][0] >= 2
    assert seen == [] and exposed(wild) == [], "the password is in no file and in no list of processes"
    assert not any(word in text for word in SPELLINGS for text in (*said[0], *said[1], server.dump(made)))
    kept = (wild / "outputs/sweeps/study/study.yaml").read_text()
    assert f"storage: postgresql+psycopg://{USER}:***@127.0.0.1:{server.port}/{made}" in kept
    assert "--storage postgresql://" in (wild / "outputs/sweeps/study/runs/00000-s0/manifest.json").read_text()
    assert not (wild / "outputs/sweeps/study/study.db").exists() and (calm / "outputs/sweeps/study/study.db").exists()


@needs_server
@pytest.mark.slow
def test_a_search_of_two_drivers_keeps_its_record_on_the_server(server: Server, made: str, tmp_path: Path) -> None:
    words = [word for word in WORDS if not word.startswith(("optimizer.lr", "seed"))]
    search = (
        "optimizer.lr=tag(log,interval(1e-3,1e-1))",
        "--trials",
        "8",
        "--search",
        "tpe",
        "--name",
        "study",
        "--workers",
        "1",
        "--json",
    )
    two = [command(tmp_path, *words, *search, "--storage", server.url(made)) for _ in range(2)]
    said = [process.communicate(timeout=180) for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    assert [len(json.loads(out)["cells"]) for out, _ in said] == [8, 8]
    assert server.run(made, "select count(*) from trials where state = 'COMPLETE'") == [(8,)], "optuna-dashboard opens it"


def refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert main([*WORDS, "--name", "study", *words]) == code
    text = capsys.readouterr().err.strip()
    assert not any(word in text for word in (*SPELLINGS, "geheim-99"))
    return text


@needs_server
def test_what_does_not_answer_is_told_in_one_line(
    server: Server, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = refused(("--storage", server.url(made, "geheim-99")), capsys, 3)
    assert "does not answer" in wrong and "password authentication failed" in wrong and len(wrong.splitlines()) == 1
    wrong = refused(("--storage", f"postgresql://me:geheim-99@127.0.0.1:1/{made}"), capsys, 3)
    assert "postgresql+psycopg://me:***@127.0.0.1:1" in wrong and len(wrong.splitlines()) == 1
    wrong = refused(("--storage", server.url("nowhere")), capsys, 3)
    assert 'database "nowhere" does not exist' in wrong


@needs_server
def test_another_disk_and_another_ledger_are_refused(server: Server, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that joins has to have the folder and the database of those before it."""
    monkeypatch.setattr(joining, "PATIENCE_SECONDS", 0.0)
    question, folder = Question((), {}, (0,), None), tmp_path / "study"
    folder.mkdir()
    joining.write_question(question, folder, server.url(made), joins=False)
    joining.write_question(question, folder, server.url(made), joins=True)
    elsewhere = tmp_path / "other" / "study"
    elsewhere.mkdir(parents=True)
    with pytest.raises(UsageError, match="another disk or were deleted") as caught:
        joining.write_question(question, elsewhere, server.url(made), joins=True)
    assert len(caught.value.lines) == 1 and PASSWORD not in str(caught.value)
    with pytest.raises(UsageError, match=r"this study is kept in postgresql.*\*\*\*.*: say --storage"):
        joining.ledger_of(folder, None)
    assert joining.ledger_of(folder, server.url(made)) == server.url(made)
    assert joining.ledger_of(elsewhere, None).startswith("sqlite:///")


# -- addresses


@pytest.fixture
def clean() -> Iterator[None]:
    yield
    redact._taken.clear()


def test_addresses_are_shown_without_their_secrets(clean: None) -> None:
    text = "postgresql://me:geheim%2F99@db:5432/runs?sslpassword=xyz12&sslmode=require"
    assert secrets_of(text) == ["geheim%2F99", "xyz12"] and secrets_of("sqlite:////tmp/x.db") == secrets_of("postgresql://me@h/d") == []
    assert shown(read_address(text)) == "postgresql+psycopg://me:***@db:5432/runs?sslmode=require&sslpassword=%2A%2A%2A"
    assert read_address("postgres://h/d").drivername == "postgresql+psycopg" == read_address("postgresql://h/d").drivername
    assert read_address("postgresql+psycopg2://h/d").drivername == "postgresql+psycopg2"
    words = ["dlrun", "sweep", "--storage", text, f"--storage={text}"]
    conceal(text, words)
    assert words[3] == "postgresql://me:***@db:5432/runs?sslpassword=***&sslmode=require" and words[4] == f"--storage={words[3]}"
    assert redact.redact("no way in with geheim/99 there") == "no way in with ${oc.env:PGPASSWORD} there"


def test_an_address_that_is_none_is_refused_unshown(clean: None) -> None:
    for text in ("geheim-99", "postgresql://me:geheim-99@host:port/db", "://me:geheim-99@h"):
        with pytest.raises(UsageError, match="--storage") as caught:
            address.read_address(text)
        assert "geheim-99" not in str(caught.value) and len(caught.value.lines) == 1


def test_a_driver_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingError, match=r"pip install 'dlrun\[postgres\]'"):
        Ledger("postgresql://me@127.0.0.1:1/d", "study")


def test_the_password_leaves_the_list_of_processes(tmp_path: Path) -> None:
    code = "import sys; from dlrun.study.address import conceal; conceal(sys.argv[2]); print(sys.argv[1:]); "
    code += "print(open('/proc/self/cmdline').read())"
    words = [sys.executable, "-c", code, "--storage", "postgresql://me:geheim-99@h/e9?password=zwei-99", "e9"]
    found = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "99" not in found and found.splitlines()[0] == "['--storage', 'postgresql://me:***@h/e9?password=***', 'e9']"
    if sys.platform == "linux":
        assert "postgresql://me:*********@h/e9?password=*******\0e9" in found
