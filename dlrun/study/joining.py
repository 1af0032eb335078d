"""Whether a driver that joins a study has the same ledger and the same folder as those before it: study.yaml says where the ledger is."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from dlrun.config.dump import dump
from dlrun.errors import UsageError
from dlrun.rundir import write_atomic
from dlrun.study.address import read_address, shown
from dlrun.study.plan import Question
from dlrun.study.tables import refuse_network, sqlite_url

PATIENCE_SECONDS = 10.0
"""How long the driver that began a study at this moment has to write study.yaml."""
KEPT = "storage: "


def ledger_of(folder: Path, storage: str | None) -> str:
    """The address of the ledger. UsageError where this folder's study is kept on a server and none is named now, and for a network disk."""
    kept = None if storage is not None else _kept(folder)
    if kept is not None:
        raise UsageError(f"{folder}: this study is kept in {kept}: say --storage with that address (and its password), or another --name")
    url = storage or sqlite_url(folder / "study.db")
    if (address := read_address(url)).get_backend_name() == "sqlite":
        refuse_network(address)
    return url


def _kept(folder: Path) -> str | None:
    """The server that study.yaml names."""
    try:
        lines = (folder / "study.yaml").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    found = [line.removeprefix(KEPT).strip("'\"") for line in lines if line.startswith(KEPT)]
    return found[0] if found and found[0] != "null" else None


def write_question(question: Question, folder: Path, url: str, *, joins: bool) -> None:
    """study.yaml, where it is not there. UsageError where a server knows the study and its folder lies elsewhere (or was deleted)."""
    address = read_address(url)
    server = address.get_backend_name() != "sqlite"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while joins and server and not (folder / "study.yaml").is_file():
        if time.monotonic() > deadline:
            raise UsageError(
                f"{shown(address)} knows a study {folder.name} whose runs are not in {folder}: they lie on another disk or were deleted; "
                f"say output_root=FOLDER as it was begun with, on a disk that all machines share, or another --name"
            )
        time.sleep(0.1)
    if not (folder / "study.yaml").is_file():
        write_atomic(folder / "study.yaml", dump({**asdict(question), "storage": shown(address) if server else None}))
