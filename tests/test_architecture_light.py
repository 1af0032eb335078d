"""Commands that only look, and errors in a config, start at once: what Python imports on the way is counted, not timed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from architecture_rules import ROOT

HEAVY = {"torch", "torchvision", "wandb", "sklearn", "matplotlib", "tensorboard", "scipy"}
PLAIN = HEAVY | {"hydra", "omegaconf", "yaml", "rich", "numpy"}
START = "import sys; from dlrun.cli import console; sys.exit(console())"


def start(code: str, *arguments: str, folder: Path) -> tuple[int, set[str], str]:
    """Exit code, top-level names of all that was imported, and what was printed, of `code` started anew with `arguments`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "importtime", "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)
    lines = done.stderr.splitlines()
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    said = "\n".join([done.stdout, *(line for line in lines if not line.startswith("import time:"))])
    return done.returncode, imported, said


COMPLETING = [f"completion --for bash -- {words}" for words in ("tr", "train model.", "train model.activation=", "train task=gan model.")]


@pytest.mark.parametrize(
    "words",
    ["--help", "ls", "ls model", "ls runs", "show model/mlp", "show train", "train --help", "completion fish", *COMPLETING],
)
def test_looking_imports_only_what_python_brings(words: str, tmp_path: Path) -> None:
    code, imported, said = start(START, *words.split(), folder=tmp_path)
    assert code == 0 and said.strip(), said
    assert not imported & PLAIN
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    ["train optimizer.lrr=0.1", "train model=mlpp", "train train.steps=many", "train dataset.nosuch=${oc.env:HOME}", "check model.width=0"],
)
def test_an_error_in_the_config_is_told_before_torch_loads(words: str, tmp_path: Path) -> None:
    code, imported, said = start(START, *words.split(), folder=tmp_path)
    assert code == 2 and "error: " in said and "Traceback" not in said, said
    assert not imported & HEAVY
    assert list(tmp_path.iterdir()) == [], "an error writes nothing"


def test_a_name_from_the_package_brings_only_what_it_needs(tmp_path: Path) -> None:
    """Public names are resolved when used; importing the package costs nothing."""
    assert not start("import dlrun", folder=tmp_path)[1] & PLAIN
    assert "torch" in start("from dlrun import LossTask", folder=tmp_path)[1], "else this test would see nothing"
