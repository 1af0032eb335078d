"""Checkpoints as W&B artifacts: files, names and bytes as they arrive at a server of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from copies import OPTIONS, PATIENCE, clean_home, finish, new_run, noted, wait_for, write
from wandb_server import KEY, Server, Store

from dlrun.cli import main
from dlrun.sinks.background import start

ONLINE = {**OPTIONS, "mode": "online"}


def saved(run: Path, step: int) -> None:
    folder = run / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(f"weights of {step}")
    (folder / "MANIFEST.json").write_text('{"files": {"model.safetensors": {}}}')


def names(store: Store) -> list[set[str]]:
    return [{alias["alias"] for alias in artifact["aliases"]} for artifact in store.artifacts]


@pytest.mark.parametrize("how", ["live", "sync"])
@pytest.mark.parametrize(("wanted", "expected"), [
    ("all", [{"step-5", "best"}, {"step-9"}]), ("best", [{"step-5", "best"}]), (True, [{"step-9"}]),
])  # fmt: skip
def test_checkpoints_become_artifacts_with_their_names(
    wanted: Any, expected: list[set[str]], how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clean_home(tmp_path, monkeypatch)
    store = Store()
    server = Server(store)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    run = new_run(tmp_path / "r")
    options = {**ONLINE, "log_model": wanted}
    background = start(None, None, options if how == "live" else OPTIONS, False)
    background.attach(run, 0)
    saved(run, 5)
    write(run, range(6))
    wait_for(lambda: noted(run).get("step") == 5)
    saved(run, 9)
    write(run, range(6, 10))
    finish(run, 9)
    background.finish(PATIENCE)
    if how == "sync":
        assert not store.artifacts and main(["sync", str(run), f"log.wandb.log_model={str(wanted).lower()}"]) == 0
    assert [found - {"latest"} for found in names(store)] == expected and "latest" in names(store)[-1]
    for number, artifact in enumerate(store.artifacts):
        step = next(name for name in names(store)[number] if name.startswith("step-")).removeprefix("step-")
        assert artifact["state"] == "COMMITTED" and sorted(artifact["files"]) == ["MANIFEST.json", "model.safetensors"]
        assert store.blobs[f"{number}-model.safetensors"] == f"weights of {step}".encode()
    capsys.readouterr()
    server.close()
