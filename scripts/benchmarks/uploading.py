"""R7: steps a second with W&B over those without: offline, against a server that is gone, against one that takes calls and is mute.

Wall time, for the copying process has a core of its own to use or to take away: this is for a machine with two cores or more. Each side
is a whole `dlrun train`, in turn; its own figure counts, which leaves out start-up, evaluation, saving and the last upload.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import training
from measure import Promise, Result, Sample, compare, dlrun

R7 = Promise("R7", 0.95, 0.99, at_least=True)
STEPS = 10_000
"""Some ten seconds: W&B's own start and its first attempts lie within."""
ACCOUNT = {"WANDB_API_KEY": "0" * 40, "WANDB_SILENT": "true"}


@contextmanager
def variables(given: Mapping[str, str]) -> Iterator[None]:
    """The environment with `given`, put back afterwards."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def steps_a_second(mode: str, address: str = "") -> Sample:
    """One training with W&B in `mode`, its server at `address`."""
    with tempfile.TemporaryDirectory() as name, variables({**ACCOUNT, **({"WANDB_BASE_URL": address} if address else {})}):
        folder = Path(name)
        words = [*training.mlp(), *training.ADAM, *training.LOOP, f"train.steps={STEPS}", f"log.wandb.mode={mode}"]
        training.on_a_terminal([*dlrun(), "train", *words], folder)
        summary = json.loads(next(folder.glob("outputs/*/*/summary.json")).read_text("utf-8"))
    if summary["status"] != "finished" or summary["step"] != STEPS:
        raise SystemExit(f"error: the training ended as {summary['status']} at step {summary['step']}")
    return {"steps/s wall": summary["steps_per_second"]}


def listening(backlog: int) -> socket.socket:
    """A port of this machine: calls are taken by the system, nobody ever reads them."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    if backlog:
        server.listen(backlog)
    return server


def step_time(rounds: int) -> Iterator[Result]:
    """R7: the three ways in which W&B can be a burden."""
    with closing(listening(0)) as gone, closing(listening(1000)) as hanging:
        dead, mute = (f"http://127.0.0.1:{server.getsockname()[1]}" for server in (gone, hanging))
        for what, mode, address in (
            ("offline", "offline", ""),
            ("online, no server", "online", dead),
            ("online, a mute one", "online", mute),
        ):
            sides = (lambda m=mode, a=address: steps_a_second(m, a)), (lambda: steps_a_second("disabled"))
            yield from compare(R7, f"dlrun train, W&B {what} / disabled", sides, rounds)
