"""P1 to P4: steps a second of `dlrun train` over a loop written by hand or Lightning's, one thread.

P1 to P3 on an MLP 784-256-10 with batch 128 and 2000 steps, P4 on a transformer with a step of about 60 ms.
Every step is logged, a bar is drawn on a terminal (a pseudo-terminal, read all the time), the last checkpoint is saved.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from measure import PYTHON, Promise, Result, Sample, compare, dlrun, environment, results

P1 = Promise("P1", 0.97, 0.99, at_least=True)
P2 = Promise("P2", 1.05, 1.10, at_least=True)
P3 = Promise("P3", 1.5, 1.8, at_least=True)
P4 = Promise("P4", 0.98, 1.0, at_least=True)

HERE = Path(__file__).parent
STEPS, CLIP = 2000, 1.0
MLP = ["model=mlp", "model.width=256", "model.depth=1", "model.dropout=0.0"]
LOOP = [
    f"train.clip_norm={CLIP}",
    "train.log_every=1",
    "train.eval_every=0",
    "train.checkpoint_every=0",
    "train.threads=1",
    "checks=none",
]


ADAM = ["optimizer=adam", "optimizer.lr=0.001", "optimizer.weight_decay=0.0"]
TRANSFORMER = {"width": 128, "depth": 3, "heads": 4}
"""As in bare_transformer.py."""


def mlp() -> list[str]:
    """The network and data of P1 to P3."""
    return [*data(), *MLP, "train.batch_size=128"]


@cache
def data() -> tuple[str, ...]:
    """The real images if they are in the cache, else random ones of their shape."""
    there = subprocess.run([*dlrun(), "data", "dataset=fashion_mnist", "--json"], capture_output=True, env=environment(), check=False)
    if there.returncode == 0:
        return ("dataset=fashion_mnist",)
    return ("--plugin", str(HERE / "images.py"), "dataset=random_images")


def on_a_terminal(command: Sequence[str], folder: Path) -> None:
    """Run `command` with a pseudo-terminal as its output, which a thread reads away; it must exit with 0."""
    ours, theirs = os.openpty()
    seen = bytearray()

    def drain() -> None:
        try:
            while chunk := os.read(ours, 65536):
                seen.extend(chunk)
        except OSError:  # Linux: the other end was closed
            pass

    reader = threading.Thread(target=drain)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment(), cwd=folder) as child:
        os.close(theirs)
        reader.start()
        code = child.wait()
    reader.join(5)
    os.close(ours)
    if code:
        raise SystemExit(f"error: {' '.join(command)} exited with {code}:\n{seen.decode(errors='replace')[-2000:]}")


def pair(bare: str, words: Sequence[str], steps: int = STEPS) -> tuple[Sample, Sample]:
    """Steps a second of `dlrun train` with `words` and of the `bare` loop, taking turns in one process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [PYTHON, str(HERE / "dlrun_loop.py"), str(folder / "seconds.json"), bare, str(CLIP), "train"]
        on_a_terminal([*command, f"train.steps={steps}", *LOOP, *words], folder)
        seconds = json.loads((folder / "seconds.json").read_text("utf-8"))
        rows = next(folder.glob("outputs/*/*/metrics.jsonl")).read_text("utf-8").count("train/loss")
    if rows < steps:
        raise SystemExit(f"error: {rows} of {steps} steps were logged: what was measured is not what was promised")
    ours, theirs = ({f"steps/s {clock}": steps / value for clock, value in seconds[side].items()} for side in ("ours", "theirs"))
    return ours, theirs


def same_optimizer(rounds: int) -> Iterator[Result]:
    """P1: the same optimizer and clipping on both sides."""
    for mode in ("disabled", "offline"):
        words = [*mlp(), *ADAM, f"log.wandb.mode={mode}"]
        yield from results(P1, f"dlrun train, adam, W&B {mode} / bare, fused Adam", [pair("fused", words) for _ in range(rounds)])


def defaults_of_each(rounds: int) -> Iterator[Result]:
    """P2: dlrun's default optimizer over torch's default Adam."""
    pairs = [pair("default", [*mlp(), "log.wandb.mode=disabled"]) for _ in range(rounds)]
    yield from results(P2, "dlrun train, its defaults / bare, torch's Adam", pairs)


def lightning_defaults(rounds: int) -> Iterator[Result]:
    """P3: dlrun's defaults over those of Lightning, each in a process of its own; dlrun's side is that of P2."""

    def theirs() -> Sample:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            on_a_terminal([PYTHON, str(HERE / "lightning_loop.py"), str(folder / "seconds.json"), str(STEPS), str(CLIP)], folder)
            seconds = json.loads((folder / "seconds.json").read_text("utf-8"))
        return {f"steps/s {clock}": STEPS / value for clock, value in seconds.items()}

    def ours() -> Sample:
        return pair("default", [*mlp(), "log.wandb.mode=disabled"])[0]

    yield from compare(P3, "dlrun train, its defaults / Lightning's", (ours, theirs), rounds)


def long_steps(rounds: int) -> Iterator[Result]:
    """P4: a step of about 60 ms, the same optimizer on both sides."""
    options = [f"model.{name}={value}" for name, value in TRANSFORMER.items()]
    data_of = ["--plugin", str(HERE / "tokens.py"), "dataset=random_tokens", "task=language_model", "train.batch_size=16"]
    words = [*data_of, *options, *ADAM, "log.wandb.mode=disabled"]
    yield from results(P4, "dlrun train, transformer / bare, fused Adam", [pair("transformer", words, 200) for _ in range(rounds)])
