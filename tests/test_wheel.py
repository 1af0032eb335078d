"""The wheel, installed in an environment of its own elsewhere, behaves as the checkout: commands, parts, values, weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from architecture_rules import ROOT

# Half a minute: run where it counts, in CI, and on request.
slow = (lambda test: test) if os.environ.get("DLRUN_CI") else pytest.mark.slow
TRAIN = ["train", "train.steps=5", "model.width=16", "checks=none", "log.wandb.mode=disabled", "device=cpu", "seed=3", "--json"]
LOOKS = [
    ["--help"], ["ls"], ["ls", "model"], ["show", "model/mlp"], ["show", "train"], ["show", "experiment/gan_ring"],
    ["completion", "bash"], ["completion", "zsh"], ["completion", "fish"], ["completion", "--for", "zsh", "--", "train", "model.w"],
    ["schema"], ["train", "--cfg"], ["data", "dataset=moons", "--json"],
]  # fmt: skip


def tracked(*folders: str) -> list[str]:
    """Files of the checkout that git knows and that are there; without git, all that are no caches."""
    done = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [path for path in done.stdout.split("\0")[:-1] if (ROOT / path).is_file()]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [path.relative_to(ROOT).as_posix() for path in files]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tracked files alone, with the hatchling that is installed: nothing is downloaded."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in tracked("dlrun", "conf", "tests", "docs", "pyproject.toml", "README.md", "LICENSE"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what it depends on is taken from the environment of the tests."""
    home = tmp_path_factory.mktemp("environment")
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    lines = [path for path in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) if path]
    (site / "dependencies.pth").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    return home / "bin" / "dlrun"


def call(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, with nothing of the tests' environment that would lead back to the checkout."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def checkout(words: list[str], folder: Path) -> str:
    return call([sys.executable, "-m", "dlrun", *words], folder, PYTHONPATH=str(ROOT)).stdout


def test_it_holds_the_package_and_the_values_and_nothing_else(wheel: Path) -> None:
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"dlrun/{path}" if path.startswith("conf/") else path for path in tracked("dlrun", "conf")}
    assert found == expected
    assert {"dlrun/conf/config.yaml", "dlrun/conf/model/mlp.yaml", "dlrun/cli/shells/_dlrun", "dlrun/cli/templates/model.txt"} <= found
    notes = {name.split("/", 1)[1] for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" in name}
    assert notes == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


@slow
@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_it_says_the_same_as_the_checkout(words: list[str], installed: Path, tmp_path: Path) -> None:
    said, expected = call([str(installed), *words], tmp_path).stdout, checkout(words, tmp_path)
    assert said == expected and said and str(ROOT) not in said


@slow
def test_it_trains_to_the_same_bits(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    mine = call([str(installed), *TRAIN], tmp_path / "a")
    summary, expected = json.loads(mine.stdout), json.loads(checkout(TRAIN, tmp_path / "b"))
    assert summary["weights_sha256"] == expected["weights_sha256"] and summary["metrics"]["test/loss"] == expected["metrics"]["test/loss"]
    run = tmp_path / "a" / summary["run_dir"]
    texts = [
        mine.stdout,
        mine.stderr,
        *(path.read_text() for path in run.rglob("*") if path.suffix in (".yaml", ".json", ".jsonl", ".txt")),
    ]
    assert not [text for text in texts if str(ROOT) in text]
    manifest = json.loads((run / "manifest.json").read_text())
    assert re.match(r"[0-9]+\.[0-9]", manifest["versions"]["dlrun"])
    assert call([str(installed), "eval", str(run), "--json"], tmp_path / "a").stdout
    assert summary["run_dir"] in call([str(installed), "ls", "runs"], tmp_path / "a").stdout


@slow
def test_plugins_and_checks(installed: Path, tmp_path: Path) -> None:
    call([str(installed), "new", "model", "own_net"], tmp_path)
    words = ["--plugin", "own_net.py", "model=own_net", *TRAIN[1:]]
    assert json.loads(call([str(installed), "train", *words], tmp_path).stdout)["status"] == "finished"
    call([str(installed), "eject", "model/mlp"], tmp_path)
    words = ["--plugin", "my_mlp.py", "--config-dir", "conf", "model=my_mlp", *TRAIN[1:]]
    ejected = json.loads(call([str(installed), "train", *words], tmp_path).stdout)
    assert ejected["weights_sha256"] == json.loads(checkout(TRAIN, tmp_path))["weights_sha256"]
    findings = json.loads(call([str(installed), "check", "dataset=moons", "--json"], tmp_path).stdout)
    assert findings["ok"] is True
