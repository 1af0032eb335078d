"""docs/clusters.md is true: its commands run, with a PostgreSQL and a Ray of the test's own where they name one."""

from __future__ import annotations

import importlib.util
import re
import shlex
from glob import glob
from pathlib import Path

import postgres_server
import pytest
from test_readme import ROOT, blocks, missing, process

from dlrun.cli.arguments import parse

PAGE = ROOT / "docs" / "clusters.md"
ADDRESS = "postgresql://USER@HOST/DATABASE"
HAVE_SERVER = postgres_server.binaries() is not None and importlib.util.find_spec("psycopg") is not None
HAVE_RAY = importlib.util.find_spec("ray") is not None


def commands(backend: str) -> list[tuple[str, str]]:
    """The commands of the page that need this (nothing, "server", "ray", a "cluster" that is not here), with the output shown below."""
    found = []
    for block in blocks(PAGE.read_text("utf-8")):
        assert block.language == "sh", f"{PAGE.name}:{block.line}"
        for line in block.text.splitlines():
            cluster, ray = "--ray-address" in line, "--backend ray" in line
            needs = "cluster" if cluster else "ray" if ray else "server" if ADDRESS in line else ""
            found += [(line, block.output)] if needs == backend else []
    return found


def run(line: str) -> str:
    """What a command prints; shells fill in `*`."""
    words = shlex.split(line)
    assert words[0] == "dlrun"
    given = [path for word in words[1:] for path in (sorted(glob(word)) if "*" in word else [word])]
    return process("-m", "dlrun", *given, *([] if words[1] in ("ls", "sync", "eval", "resume") else ["device=cpu"]))


def values(folder: str) -> list[str]:
    """The goal of every run, from results.csv."""
    rows = (Path(folder) / "results.csv").read_text().splitlines()
    place = rows[0].split(",").index("value")
    return [row.split(",")[place] for row in rows[1:]]


def test_its_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But `sync`, which needs an account; without one it says so and ends with 3."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    lines = commands("")
    assert len(lines) == 7
    for line, output in lines:
        if line.startswith("dlrun sync"):
            assert len(glob(line.split()[-1])) == 8
            continue
        printed = run(line)
        assert not (left := missing(output, printed)), f"{line}: not printed: {left}\nprinted:\n{printed}"
    assert len(values("outputs/sweeps/first")) == 8
    for name in ("study.yaml", "study.db", "results.csv", "results.html", "figures", "runs/00000-s0/config.yaml", "runs/00003-s1/log.txt"):
        assert (Path("outputs/sweeps/first") / name).exists(), name


@pytest.mark.slow
@pytest.mark.skipif(not HAVE_SERVER, reason="PostgreSQL or psycopg is absent: the command with --storage is NOT run")
def test_its_command_with_a_server_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    server = postgres_server.Server()
    try:
        monkeypatch.setenv("PGPASSWORD", postgres_server.PASSWORD)
        server.make("runs")
        ((line, _),) = commands("server")
        address = f"postgresql://{postgres_server.USER}@127.0.0.1:{server.port}/runs"
        run(line.replace(ADDRESS, address))
        assert len(values("shared/sweeps/wide")) == 4
        assert postgres_server.PASSWORD not in server.dump("runs")
        assert server.run("runs", "select count(*) from dlrun_jobs where state = 'finished'") == [(4,)]
    finally:
        server.close()


@pytest.mark.slow
@pytest.mark.skipif(not HAVE_RAY, reason="Ray is not installed: the command with --backend ray is NOT run")
def test_its_command_with_ray_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((line, _),) = commands("ray")
    run(line)
    assert len(values("outputs/sweeps/rays")) == 4


def test_what_cannot_run_here_is_understood_at_least() -> None:
    lines = commands("cluster")
    assert len(lines) == 2
    for line, _ in lines:
        found = parse(shlex.split(line)[1:])
        assert found.text("backend") == "ray" and found.text("ray-address") in ("auto", "HOST:6379")


def test_the_columns_and_extras_it_names_are_there() -> None:
    text = PAGE.read_text("utf-8")
    extras = set(re.findall(r"dlrun\[(\w+)\]", text))
    declared = (ROOT / "pyproject.toml").read_text("utf-8")
    assert extras == {"postgres", "ray"} and all(re.search(rf"^{extra} = \[", declared, re.M) for extra in extras)
