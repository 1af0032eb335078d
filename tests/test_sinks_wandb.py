"""W&B, online against a server of our own: every row once whatever dies, one id over resumes, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from copies import OPTIONS, PATIENCE, SECRET, clean_home, comparable, cut, finish, kill, new_run, noted, wait_for, write
from PIL import Image
from wandb_server import KEY, Kept, Server, Store

from dlrun.cli import main
from dlrun.sinks.background import Background, start
from dlrun.sinks.tail import parsed
from dlrun.sinks.wandb_options import wandb_options

ONLINE = {**OPTIONS, "mode": "online"}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def server(store: Store) -> Iterator[Server]:
    found = Server(store)
    yield found
    found.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Path:
    """A new run of a user with an account at the server."""
    clean_home(tmp_path, monkeypatch)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return new_run(tmp_path / "r 1")


def whole(run: Path, held: Kept) -> None:
    """W&B has exactly the rows of metrics.jsonl, in their order."""
    truth = [parsed(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    rows = [{name.replace("_step", "step"): v for name, v in row.items() if name not in ("_timestamp", "_runtime")} for row in held.rows]
    rows = [{name: value for name, value in row.items() if not name.startswith("figures/")} for row in rows]
    assert comparable(rows) == comparable([row for row in truth if row])
    assert not held.gaps


def only(store: Store) -> Kept:
    (held,) = store.runs.values()
    return held


def begun(run: Path, options: dict[str, Any], step: int = 0) -> Background:
    background = start(None, None, options, False)
    background.attach(run, step)
    return background


def test_online_all_there_is_and_no_secret(run: Path, store: Store) -> None:
    (run / "checkpoints" / "step-00000009").mkdir(parents=True)
    for name, text in (("model.safetensors", "w"), ("MANIFEST.json", '{"files": {"model.safetensors": {}}}'), ("stray.txt", "is not sent")):
        (run / "checkpoints" / "step-00000009" / name).write_text(text)
    background = begun(run, {**ONLINE, "log_model": True, "group": "g", "notes": "n", "entity": "team", "project": "p"})
    write(run, range(6))
    wait_for(lambda: noted(run).get("step") == 5)
    write(run, range(6, 10))
    (run / "figures").mkdir()
    Image.new("RGB", (30, 20)).save(run / "figures" / "curves.png")
    finish(run, 9)
    (line,) = background.finish(PATIENCE)
    assert line.startswith("W&B: http://127.0.0.1") and noted(run)["id"] in line
    held = only(store)
    whole(run, held)
    assert held.rows[-1]["figures/curves"]["width"] == 30 and any(name.endswith(".png") for name in held.files)
    assert held.summary["status"] == "finished" and held.summary["best/step"] == 5 and held.summary["events/memorised"] == 4
    assert held.exit_code == 0 and held.config["key"] == "${oc.env:MY_TOKEN}" and held.config["train"] == {"steps": 9}
    given = held.variables
    assert (given["entity"], given["project"], given["groupName"], given["notes"], given["tags"]) == ("team", "p", "g", "n", ["a"])
    (artifact,) = store.artifacts
    assert artifact["state"] == "COMMITTED" and sorted(artifact["files"]) == ["MANIFEST.json", "model.safetensors"]
    assert {alias["alias"] for alias in artifact["aliases"]} == {"latest", "step-9"}
    assert SECRET.encode() not in b"".join(store.everything)
    files = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert SECRET.encode() not in files and KEY.encode() not in files


def test_one_run_over_resumes_offline_killed_and_cut_back(run: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    background = begun(run, OPTIONS)
    write(run, range(4))
    background.finish(PATIENCE)
    background = begun(run, ONLINE, 3)  # began offline, goes on online: what is missing there comes first
    write(run, range(4, 9))
    wait_for(lambda: noted(run).get("step") == 8)
    kill(background)
    background.finish(PATIENCE)
    cut(run, 6)  # back to the checkpoint of step 5, then on: the same numbers again
    background = begun(run, ONLINE, 5)
    write(run, range(6, 12))
    finish(run, 11)
    assert background.finish(PATIENCE)[0].startswith("W&B: http")
    whole(run, only(store))
    assert main(["sync", str(run)]) == 0 and "nothing to send" in capsys.readouterr().out
    whole(run, only(store))


def test_sync_uploads_what_is_missing_once(run: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    background = begun(run, {**OPTIONS, "project": "mine"})
    write(run, range(8))
    background.finish(PATIENCE)
    assert main(["sync", str(run)]) == 0
    assert "8 rows sent; complete up to step 7: http" in capsys.readouterr().out
    whole(run, only(store))
    assert only(store).variables["project"] == "mine", "what the run began with, not what the environment says now"
    write(run, range(8, 11))  # resumed meanwhile
    finish(run, 10)
    assert main(["sync", str(run)]) == 0
    assert "3 rows sent, after step 7 which W&B had" in capsys.readouterr().out
    assert main(["sync", str(run), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] and document["runs"][0]["rows"] == 0 and document["runs"][0]["run"] == str(run)
    whole(run, only(store))


def test_an_outage_in_the_middle_leaves_no_gap(run: Path, store: Store, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    background = begun(run, ONLINE)
    write(run, range(20))
    wait_for(lambda: noted(run).get("step") == 19)
    server.close()
    write(run, range(20, 30))
    finish(run, 29)
    (line,) = background.finish(PATIENCE)
    assert line.startswith("W&B: not all was uploaded (") and "cannot be reached" in line and "dlrun sync '" in line
    assert main(["sync", str(run)]) == 3 and "cannot be reached" in capsys.readouterr().err
    again = Server(store, server.port)
    assert main(["sync", str(run)]) == 0
    whole(run, only(store))
    del only(store).history[12:]  # an upload that was cut off there
    write(run, range(30, 33))
    assert main(["sync", str(run)]) == 0 and "21 rows sent, after step 11 which W&B had" in capsys.readouterr().out
    again.close()
    whole(run, only(store))


@pytest.mark.parametrize("mood", ["401", pytest.param("500", marks=pytest.mark.slow), pytest.param("hang", marks=pytest.mark.slow)])
def test_a_server_that_will_not(run: Path, store: Store, mood: str, capsys: pytest.CaptureFixture[str]) -> None:
    store.mood = mood
    background = begun(run, ONLINE)
    write(run, range(5))
    finish(run, 4)
    (line,) = background.finish(PATIENCE)
    assert "offline" in line and "online did not work" in line and ("wandb login" in line) == (mood == "401")
    assert main(["sync", str(run), str(run.parent / "none")]) == 3
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and errors[1].endswith("no run directory: it has no config.yaml")
    store.mood = "ok"
    assert main(["sync", str(run)]) == 0
    whole(run, only(store))


def test_other_numbers_are_never_mixed(run: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write(run, range(8))
    finish(run, 7, "interrupted")
    assert main(["sync", str(run)]) == 0
    cut(run, 5)
    write(run, range(5, 12), shift=0.25)  # trained on from step 4 on another device
    finish(run, 11)
    background = begun(run, ONLINE, 4)
    (line,) = background.finish(PATIENCE)
    assert "offline" in line and "W&B holds another train/loss for step 7" in line
    assert main(["sync", str(run)]) == 3
    assert "dlrun sync --fresh" in capsys.readouterr().err
    assert [row["_step"] for row in only(store).rows] == list(range(8)), "nothing was added to it"
    assert main(["sync", "--fresh", str(run)]) == 0
    old, new = store.runs.values()
    whole(run, new)
    assert len(old.rows) == 8


def test_an_id_that_is_taken_is_not_used(run: Path, store: Store) -> None:
    store.runs["job7"] = Kept({"name": "job7"}, ['{"_step": 99}'])
    background = begun(run, {**ONLINE, "id": "job7"})
    write(run, range(3))
    finish(run, 2)
    (line,) = background.finish(PATIENCE)
    assert "WANDB_RUN_ID=job7 is the id of another run: not used" in line and len(store.runs["job7"].rows) == 1
    whole(run, store.runs[noted(run)["id"]])


def test_sync_says_what_it_cannot_do(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    assert main(["sync"]) == 2
    assert main(["sync", str(run), "log.wandb.projekt=x", "train.steps=3", "log.wandb.tags=3"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 4
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("mode: null", "mode: disabled"))
    assert main(["sync", str(run)]) == 0 and "left alone, W&B was disabled" in capsys.readouterr().out
    with open(run / ".lock", "w") as lock:
        lock.write("process 7 on here")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["sync", str(run), "log.wandb.mode=online"]) == 3
    assert "in use by process 7 on here" in capsys.readouterr().err
    (run / "config.yaml").write_text("log: {wandb: [1]}\n")
    assert main(["sync", str(run)]) == 3 and "it is not one of dlrun's" in capsys.readouterr().err


def test_wandb_dir_takes_the_files(run: Path, tmp_path: Path) -> None:
    background = begun(run, {**OPTIONS, "dir": str(tmp_path / "elsewhere")})
    write(run, range(3))
    background.finish(PATIENCE)
    assert list((tmp_path / "elsewhere" / "wandb").glob("offline-run-*/*.wandb")) and not list(run.glob("wandb/offline-*"))
    assert (run / noted(run)["folders"][0]).resolve().is_dir()


# -- what the environment and the config say ----------------------------------------------------------------------------------------------


def chosen(environ: dict[str, str], saved: dict[str, Any] | None = None, **values: Any) -> tuple[dict[str, Any], list[str]]:
    keys = {"mode": None, "project": None, "entity": None, "group": None, "name": None, "notes": None, "tags": [], "log_model": False}
    resolved = {**keys, **values}
    written = {**resolved, **(saved or {})}
    return wandb_options({"log": {"wandb": written}}, {"log": {"wandb": resolved}, "experiment": "grokking", "tags": ["paper"]}, environ)


def test_config_then_environment_then_defaults() -> None:
    options, notes = chosen({})
    assert (options["mode"], options["project"], options["group"], options["tags"]) == ("offline", "dlrun", "grokking", ["paper"])
    assert options["name"] is None and notes == []
    said = {"PROJECT": "p", "ENTITY": "e", "RUN_GROUP": "g", "NAME": "n", "NOTES": "o", "TAGS": "x, paper", "RUN_ID": "i", "DIR": "d"}
    environ = {f"WANDB_{name}": value for name, value in said.items()}
    options, _ = chosen({**environ, "WANDB_MODE": "online", "WANDB_SILENT": "true"})
    assert [options[key] for key in ("project", "entity", "group", "name", "notes", "id", "dir")] == ["p", "e", "g", "n", "o", "i", "d"]
    assert options["tags"] == ["paper", "x"] and options["mode"] == "online" and options["silent"] and options["given"] == []
    options, notes = chosen({**environ, "WANDB_MODE": "disabled"}, mode="online", project="mine", tags=["t"])
    assert (options["mode"], options["project"], options["tags"], options["entity"]) == ("online", "mine", ["paper", "t"], "e")
    assert options["given"] == ["project", "tags"] and notes == ["W&B: log.wandb.mode=online wins over disabled from the environment"]


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({"WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, "disabled"),
        ({"WANDB_MODE": "x"}, "offline"),
    ],
)
def test_modes(environ: dict[str, str], mode: str) -> None:
    options, notes = chosen(environ)
    assert options["mode"] == mode and bool(notes) == (environ.get("WANDB_MODE") == "x")
    assert chosen(environ, mode="disabled")[0]["mode"] == "disabled"


def test_what_comes_from_the_environment_is_kept_from_wandb() -> None:
    options, notes = chosen({}, {"notes": "see ${oc.env:MY_TOKEN}", "tags": ["${oc.env:MY_TOKEN}"]}, notes=f"see {SECRET}", tags=[SECRET])
    assert SECRET not in str(options) and len(notes) == 2 and "WANDB_NOTES" in notes[0] and SECRET not in str(notes)
    options, notes = chosen({}, {"entity": "${oc.env:WANDB_ENTITY}"}, entity="team")
    assert options["entity"] == "team" and not notes, "W&B's own variables are W&B's to see"
    options, notes = chosen({}, {"name": "${oc.env:WANDB_API_KEY}"}, name=KEY)
    assert options["name"] is None and len(notes) == 1, "but not its key"


@pytest.mark.slow
def test_a_training_is_the_same_with_a_server_that_hangs(run: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    store.mood = "hang"
    shas = []
    for mode in ("disabled", "online"):
        assert main(["train", f"run_dir={mode}", f"log.wandb.mode={mode}", "train.steps=40", "checks=none", "device=cpu"]) == 0
        shas.append(json.loads((run.parent / mode / "summary.json").read_text())["weights_sha256"])
    assert shas[0] == shas[1] and not store.runs
    assert not (run.parent / "disabled" / "wandb").exists()
    store.mood = "ok"
    wait_for(lambda: noted(run.parent / "online").get("complete"), 60)
    assert main(["sync", "online"]) == 0
    whole(run.parent / "online", only(store))


def test_the_server_notices_a_gap_and_a_double() -> None:
    held = Kept({})
    held.put("wandb-history.jsonl", 0, ['{"_step": 0}'])
    held.put("wandb-history.jsonl", 2, ['{"_step": 2}'])
    assert held.gaps
