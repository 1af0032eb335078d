"""The way from a bare checkout to a command: scripts/, the pinned versions, the wheel.

The scripts are tried on a small checkout whose dlrun has no dependencies and a build backend of its own, so that nothing is fetched.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
from architecture_rules import ROOT

import dlrun

BACKEND = """
import os, pathlib, time, zipfile
def build_editable(directory, config_settings=None, metadata_directory=None):
    pathlib.Path("builds").open("a").write("x")
    time.sleep(float(os.environ.get("SLOW_BUILD", "0")))
    info, name = "dlrun-0.1.0.dist-info/", "dlrun-0.1.0-py3-none-any.whl"
    files = {
        "_dlrun.pth": os.getcwd() + "\\n",
        info + "METADATA": "Metadata-Version: 2.1\\nName: dlrun\\nVersion: 0.1.0\\nProvides-Extra: test\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        info + "entry_points.txt": "[console_scripts]\\ndlrun = dlrun.cli:console\\n",
        info + "RECORD": "",
    }
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "dlrun"
version = "0.1.0"
"""
COMMAND = """
import os, sys
def console():
    print(os.getcwd(), *sys.argv[1:], sep="|")
    return 7 if "fail" in sys.argv else 0
"""


def checkout(folder: Path) -> Path:
    """A small checkout with the real scripts."""
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "dlrun").mkdir()
    for name, text in {
        "dlrun/__init__.py": "",
        "dlrun/cli.py": COMMAND,
        "backend.py": BACKEND,
        "pyproject.toml": PROJECT,
        "constraints.txt": "",
    }.items():
        (folder / name).write_text(text)
    return folder


def clean() -> dict[str, str]:
    """The environment without what would show the small checkout the real package."""
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}


def call(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `command` printed; it must succeed."""
    return subprocess.run(command, cwd=cwd, env=clean(), capture_output=True, text=True, check=True)


def start(folder: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    """`scripts/dlrun arguments`, in a process group of its own."""
    return subprocess.Popen(
        [folder / "scripts" / "dlrun", *arguments],
        cwd=cwd or folder.parent,
        env={**clean(), "DLRUN_PYTHON": sys.executable, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> tuple[int, str, list[str]]:
    """Exit code, stdout and the lines of stderr of `scripts/dlrun arguments`."""
    process = start(folder, *arguments, cwd=cwd, **environment)
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error.splitlines()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in a folder with spaces after its first use."""
    folder = checkout(tmp_path_factory.mktemp("a") / "with some space")
    code, out, error = run(folder, "first", "use")
    assert (code, out) == (0, f"{folder.parent}|first|use\n")
    assert len(error) == 2 and "installing into" in error[0] and "minutes" in error[0]
    return folder


def test_later_uses_install_nothing_and_work_from_anywhere(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "a b", "", cwd=tmp_path) == (0, f"{tmp_path}|a b|\n", [])
    assert run(installed, "fail")[0] == 7
    for folder, name in [(installed, "scripts/dlrun"), (installed / "scripts", "./dlrun"), (installed / "scripts", "../scripts/dlrun")]:
        assert call(name, "x", cwd=folder).stdout == f"{folder}|x\n"
    assert call("bash", "dlrun", "x", cwd=installed / "scripts").stdout.endswith("|x\n")
    assert (installed / "builds").read_text() == "x"


def test_it_works_through_links(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "one").symlink_to(installed / "scripts" / "dlrun")
    (tmp_path / "bin" / "two").symlink_to("one")
    (tmp_path / "tree").symlink_to(installed)
    for path in ("bin/one", "bin/two", "tree/scripts/dlrun"):
        found = call(tmp_path / path, "x", cwd=tmp_path)
        assert (found.stdout, found.stderr) == (f"{tmp_path}|x\n", "")


def test_a_start_with_all_installed_starts_no_other_process(installed: Path) -> None:
    """What stands between a user and every command is comparing text: bash replaces itself by dlrun."""
    traced = call("bash", "-x", installed / "scripts" / "dlrun", "x")
    commands = {line.lstrip("+ ").split(" ")[0].split("=")[0] for line in traced.stderr.splitlines() if line.startswith("+")}
    assert "exec" in commands
    assert not commands & {"python", "python3", "readlink", "cat", "sha256sum", "dirname", "pwd"}


def test_changed_pins_are_installed_and_a_failing_pip_says_so_in_one_line(installed: Path) -> None:
    pins = installed / "constraints.txt"
    pins.write_text("# changed\n")
    assert run(installed, "x")[2][0].startswith("dlrun: installing")
    assert run(installed, "x")[2] == []
    pins.write_text("no such thing ==\n")
    code, out, error = run(installed, "x")
    assert (code, out) == (3, "")
    assert error[-1].startswith("error: pip install failed with exit code 1: ERROR: Invalid requirement")
    assert str(installed / ".venv" / "dlrun-install.log") in error[-1]
    assert [line for line in error if line.startswith("error")] == error[-1:]
    pins.write_text("# changed\n")
    assert run(installed, "x") == (0, f"{installed.parent}|x\n", []), "pip changed nothing, so what was installed still stands"


def test_two_first_uses_at_once_install_once(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "two")
    both = [start(folder, "x", SLOW_BUILD="1") for _ in range(2)]
    assert [(process.communicate(timeout=120)[0], process.returncode) for process in both] == [(f"{tmp_path}|x\n", 0)] * 2
    assert (folder / "builds").read_text() == "x"


def test_an_interrupted_installation_is_begun_anew_and_a_moved_checkout_installed_again(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "killed")
    process = start(folder, "x", SLOW_BUILD="60")
    deadline = time.monotonic() + 100
    while not (folder / "builds").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    half = next(folder.glob(".venv/lib/python*/site-packages")) / "half_unpacked"
    half.mkdir()
    assert run(folder, "x")[:2] == (0, f"{tmp_path}|x\n")
    assert not half.exists()
    moved = folder.rename(tmp_path / "moved")
    code, out, error = run(moved, "x")
    assert (code, out) == (0, f"{tmp_path}|x\n") and "installing" in error[0]


def test_an_environment_of_somebody_else_is_used_and_kept(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "theirs")
    subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
    (folder / ".venv" / "precious").touch()
    code, _, error = run(folder, "x")
    assert code == 0 and any("already" in line for line in error)
    assert (folder / ".venv" / "precious").exists()


def test_without_a_python_there_is_one_line(tmp_path: Path) -> None:
    """A name that is found and does not run (a version manager's stand-in) counts as none."""
    folder, tools = checkout(tmp_path / "bare"), tmp_path / "tools"
    tools.mkdir()
    (tools / "bash").symlink_to(shutil.which("bash") or "bash")
    for name in ("python3", "python3.12"):
        (tools / name).write_text("#!/bin/sh\nexit 127\n")
        (tools / name).chmod(0o755)
    code, out, error = run(folder, "x", PATH=str(tools), DLRUN_PYTHON="")
    assert (code, out, len(error)) == (3, "", 1) and error[0].startswith("error: no Python 3.11")
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("system", ["msys", "cygwin", "win32"])
def test_on_windows_there_is_one_line(tmp_path: Path, system: str) -> None:
    code, out, error = run(checkout(tmp_path / "bare"), "x", OSTYPE=system)
    assert (code, out, len(error)) == (3, "", 1) and "Linux and macOS" in error[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_checkout_that_cannot_be_written_gives_one_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "closed")
    folder.chmod(0o555)
    code, _, error = run(folder, "x")
    folder.chmod(0o755)
    assert (code, len(error)) == (3, 1) and "writable" in error[0]


@pytest.mark.parametrize("path", ["scripts/dlrun", "scripts/test", "scripts/bench", "scripts/guide", "scripts/results", ".ci/run"])
def test_scripts_are_bash_that_parses_and_may_be_started(path: str) -> None:
    assert (ROOT / path).read_text().startswith("#!/usr/bin/env bash\n")
    assert os.access(ROOT / path, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / path], check=True)


def requirements() -> dict[str, str]:
    """Every direct dependency of the project and its extras -> what it asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    split = [re.fullmatch(r"([A-Za-z0-9._-]+)(\[\w+\])?(.*)", item) for items in lists for item in items]
    assert all(split)
    return {found[1].lower(): found[3] for found in split if found and found[1] != "dlrun"}


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {name.lower(): version for name, version in (line.split("==") for line in lines)}


def test_every_direct_dependency_is_pinned_and_only_those() -> None:
    assert pins().keys() == requirements().keys()
    assert (pins()["torch"], pins()["torchvision"]) == ("2.13.0", "0.28.0")


def test_pins_lie_in_the_ranges_which_have_both_ends_for_what_changes_its_interface() -> None:
    def number(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", text)[:3])

    for name, asked in requirements().items():
        low, _, high = asked.removeprefix(">=").partition(",<")
        assert number(low) <= number(pins()[name]), name
        assert not high or number(pins()[name])[: len(number(high))] < number(high), name


def test_the_wheel_holds_the_configuration(tmp_path: Path) -> None:
    """What is installed elsewhere than in the checkout finds `conf/` beside the code."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    held = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"dlrun/{path.relative_to(ROOT).as_posix()}" in held
    assert {"dlrun/cli/__init__.py", "dlrun/py.typed", "dlrun/conf/config.yaml"} <= held
    assert {name.split("/")[0] for name in held} == {"dlrun", f"dlrun-{dlrun.__version__}.dist-info"}
