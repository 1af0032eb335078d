"""W&B and a study: its runs arrive once each, in one group, when the study is done; a server that is away costs a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import studies
from copies import clean_home
from wandb_server import KEY, Server, Store

from dlrun.cli import main
from dlrun.sinks.wandb_options import study_of

WORDS = ["sweep", *studies.MOONS[:-3], "train.steps=6", "checks=none", "device=cpu", "seed=0,1", "--name", "mine", "--workers", "2"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A server, and a user with an account there in a folder of their own."""
    clean_home(tmp_path, monkeypatch)
    found = Store()
    server = Server(found)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield found
    server.close()


def check_arrived(store: Store, runs: list[Path], group: str) -> None:
    """Every run is there once, whole, in the group."""
    assert len(store.runs) == len(runs)
    by_name = {str(run.variables["displayName"]).rpartition("/")[2]: run for run in store.runs.values()}
    for path in runs:
        run = by_name[path.name]
        assert run.variables["groupName"] == group and run.gaps == []
        steps = [json.loads(line)["step"] for line in (path / "metrics.jsonl").read_text().splitlines()]
        assert [row["_step"] for row in run.rows] == steps and len(steps) == 3
        assert run.summary["weights_sha256"] == json.loads((path / "summary.json").read_text())["weights_sha256"]


def test_runs_of_a_study_arrive_in_one_group_once_each(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "optimizer.lr=0.01,0.1", "log.wandb.mode=online"]
    assert main(words) == 0
    runs = sorted(Path("outputs/sweeps/mine/runs").iterdir())
    assert len(runs) == 4
    check_arrived(store, runs, "mine")
    said = capsys.readouterr().out
    assert "W&B gets the runs when all are done, as group mine" in said and "W&B: has all 4 runs; 12 rows sent" in said
    assert main(words) == 0 and "W&B: has all 4 runs; 0 rows sent" in capsys.readouterr().out
    check_arrived(store, runs, "mine")


def test_offline_runs_are_synced_later_into_the_group(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "optimizer.lr=0.01"]) == 0
    said = capsys.readouterr().out
    assert store.requests == [] and f"dlrun sync {Path.cwd()}/outputs/sweeps/mine/runs/*" in said
    runs = sorted(Path("outputs/sweeps/mine/runs").iterdir())
    assert main(["sync", *map(str, runs)]) == 0
    check_arrived(store, runs, "mine")
    assert main(["sync", *map(str, runs)]) == 0 and capsys.readouterr().out.count("nothing to send") == 2
    check_arrived(store, runs, "mine")


def test_a_group_that_was_named_wins_and_a_server_that_is_away_costs_a_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "optimizer.lr=0.01", "log.wandb.mode=online", "log.wandb.group=ours"]
    store.mood = "401"
    assert main(words) == 0, "what W&B does changes nothing"
    said = capsys.readouterr().out
    assert "as group ours" in said and "of 2 runs not uploaded" in said and "W&B gets the rest with: dlrun sync" in said
    store.mood = "ok"
    runs = sorted(Path("outputs/sweeps/mine/runs").iterdir())
    assert main(["sync", *map(str, runs)]) == 0
    check_arrived(store, runs, "ours")


def test_a_run_of_a_study_is_known_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "mine" / "runs" / "00000-s0").mkdir(parents=True)
    assert study_of(tmp_path / "mine" / "runs" / "00000-s0") is None
    (tmp_path / "mine" / "study.yaml").touch()
    assert study_of(tmp_path / "mine" / "runs" / "00000-s0") == "mine"
    assert study_of(tmp_path / "mine" / "00000-s0") is None
