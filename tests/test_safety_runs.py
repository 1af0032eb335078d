"""Promises S1 and S2 on run directories of others: links, pipes, damaged and forged files; nothing outside is touched."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import hostile
import pytest
import runs

from dlrun import checkpoint, load
from dlrun.errors import MissingError

STEPS = ("train.steps=4", "train.checkpoint_every=2", "train.eval_every=2", "train.keep_last=9", "model.width=8", "train.ema=0.9")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlrun.wrapup.draw_figures", lambda session: None)  # 1.5 s a run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run, _, code = runs.start(folder, *STEPS, "schedule=cosine", "augment.a=noise")
    (run / "figures").mkdir(exist_ok=True)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "status": "interrupted"}))
    assert code == 0
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "runs" / "hostile" / "run")
    return tmp_path / "runs" / "hostile" / "run"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user's that no command names."""
    path = tmp_path / "home" / "precious"
    path.parent.mkdir()
    path.write_text("# never to be touched\n" * 3)
    os.utime(path, ns=(1, 1))
    return path


def commands(run: Path) -> list[tuple[str, ...]]:
    """Every command that reads a run, with words that make it do all it can."""
    return [
        ("resume", str(run), "train.steps=6", "log.wandb.mode=disabled"),
        ("eval", str(run), "--split", "val"),
        ("eval", str(run), "--step", "best"),
        ("sync", str(run), "log.wandb.mode=disabled"),
        ("train", f"start.from={run}", "model.width=8", "checks=none", "train.steps=1", "log.wandb.mode=disabled", f"run_dir={run}-2"),
        ("ls", "runs", f"output_root={run.parents[1]}"),
        ("ls", "runs", "--json", f"output_root={run.parents[1]}"),
    ]


TOP = [
    "config.yaml",
    "manifest.json",
    "summary.json",
    "metrics.jsonl",
    "events.jsonl",
    "histograms.jsonl",
    "log.txt",
    ".lock",
    "wandb.json",
]
PARTS = ["summary.json.part", "config.yaml.part", "eval-val.json", "eval-val.json.part", "wandb.json.part"]
FOLDERS = ["checkpoints", "figures", "replay", "tensorboard", "wandb", "probes"]
DEEPER = [
    "checkpoints/step-00000004",
    "checkpoints/step-00000004.part",
    "checkpoints/step-00000004/state.json",
    "figures/curves.png",
    "wandb/.lock",
]


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path, _: Path) -> None:
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def relative_link(path: Path, target: Path) -> None:
    path.symlink_to(os.path.relpath(target, path.parent))


def dangling(path: Path, target: Path) -> None:
    path.symlink_to(target.with_name("not-yet"))


KINDS: dict[str, Callable[[Path, Path], None]] = {
    "link": link,
    "relative": relative_link,
    "dangling": dangling,
    "pipe": pipe,
    "socket": bound_socket,
}


def replace(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("name", [*TOP, *PARTS, *FOLDERS, *DEEPER])
def test_s1_what_is_no_plain_file_is_refused_and_never_followed(
    name: str, run: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    before = precious.read_bytes()
    for kind, make in KINDS.items():
        target = precious.parent if name in FOLDERS else precious
        replace(run / name)
        make(run / name, target)
        for words in commands(run) if kind == "link" else commands(run)[:2]:
            answer = hostile.ask(*words)
            hostile.assert_calm(answer, (name, kind, words))
            if words[0] not in ("ls", "sync"):
                assert answer.code == 3 and (Path(name).name in answer.err or "has no c" in answer.err), (kind, words, answer)
            assert "never to be" not in answer.out + answer.err
        with pytest.raises(MissingError):
            load(run)
        replace(run / name)
    assert precious.read_bytes() == before and precious.stat().st_mtime_ns == 1 and os.listdir(precious.parent) == ["precious"]


@pytest.mark.parametrize("name", ["metrics.jsonl", "events.jsonl", "log.txt", ".lock"])
def test_s1_a_file_that_has_a_second_name_is_not_appended_to(name: str, run: Path, precious: Path) -> None:
    (run / name).unlink()
    os.link(precious, run / name)
    answer = hostile.ask(*commands(run)[0])
    assert answer.code == 3 and f"{name} has a second name elsewhere" in answer.err
    assert precious.read_text().startswith("# never") and precious.stat().st_mtime_ns == 1


def test_s1_a_new_file_is_not_written_through_a_link_that_came_late(run: Path, precious: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even after the folder was looked at: what stands in the way is taken away."""
    from dlrun.rundir import write_atomic

    monkeypatch.setattr(os, "urandom", bytes)
    (run / ".x.json.00000000.part").symlink_to(precious)
    write_atomic(run / "x.json", "{}")
    assert precious.read_text().startswith("# never") and (run / "x.json").read_text() == "{}" and not (run / "x.json").is_symlink()


def test_s1_a_run_with_wandbs_own_links_is_fine(run: Path, precious: Path) -> None:
    logs = run / "wandb" / "offline-run-20260101_000000-abcdefgh" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(precious)
    assert hostile.ask(*commands(run)[1]).code == 0


@pytest.mark.parametrize("name", ["../../../home/precious", "/etc/passwd", "model/../state.json", "", "."])
def test_s1_a_checkpoint_names_no_file_elsewhere(name: str, run: Path, precious: Path) -> None:
    for step in (0, 2):
        shutil.rmtree(checkpoint.step_directory(run, step), ignore_errors=True)
    path = checkpoint.step_directory(run, 4)
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    del manifest["sha256"]
    manifest["files"][name] = {"sha256": checkpoint._digest(precious), "bytes": precious.stat().st_size, "names": []}
    (path / checkpoint.MANIFEST).write_text(json.dumps(checkpoint._sealed(manifest)))
    answer = hostile.ask("eval", str(run))
    assert answer.code == 3 and "not a plain file" in answer.err


def forged(run: Path, name: str, rng: random.Random) -> str:
    """Change one value of one file of `run`; sums fit afterwards, as if the forger had written them. What was done, in words."""
    last = checkpoint.step_directory(run, 4)
    for step in (0, 2):
        shutil.rmtree(checkpoint.step_directory(run, step), ignore_errors=True)
    file = last / name if name in ("state.json", "MANIFEST.json") else run / name
    tree, what = hostile.mutated(json.loads(file.read_text()), rng)
    if name == "MANIFEST.json":
        tree.pop("sha256", None)
        tree = checkpoint._sealed(tree)
    file.write_text(json.dumps(tree))
    if name == "state.json":
        manifest = json.loads((last / "MANIFEST.json").read_text())
        manifest["files"]["state.json"]["names"] = sorted(tree)
        (last / "MANIFEST.json").write_text(json.dumps(manifest))
        hostile.reseal(last)
    return f"{name} {what}"


def fuzz(whole: Path, folder: Path, seed: int, times: int) -> None:
    rng = random.Random(seed)
    for number in range(times):
        run = folder / str(number) / "e" / "run"
        shutil.copytree(whole, run)
        what = forged(run, rng.choice(["state.json"] * 4 + ["MANIFEST.json", "summary.json", "manifest.json"]), rng)
        for words in (commands(run)[0], commands(run)[2], commands(run)[5]):
            hostile.assert_calm(hostile.ask(*words), (what, words))
        shutil.rmtree(folder / str(number))


def test_s2_forged_values_are_errors_not_crashes(whole: Path, tmp_path: Path) -> None:
    fuzz(whole, tmp_path, 20_240, 15)


@pytest.mark.slow
def test_s2_forged_values_are_errors_not_crashes_many(whole: Path, tmp_path: Path) -> None:
    fuzz(whole, tmp_path, 7, 400)


READ_BY_MOST = ("summary.json", "manifest.json", "config.yaml")


@pytest.mark.parametrize(
    "name", ["summary.json", "manifest.json", "metrics.jsonl", "events.jsonl", "histograms.jsonl", "wandb.json", "config.yaml"]
)
def test_s2_files_that_are_not_what_they_should_be(name: str, run: Path) -> None:
    kept = (run / name).read_bytes() if (run / name).exists() else None
    for kind, text in hostile.TEXTS.items():
        (run / name).write_bytes(text)
        for words in (commands(run)[0], *commands(run)[2:6:3]) if name in READ_BY_MOST else commands(run)[:1]:
            hostile.assert_calm(hostile.ask(*words), (name, kind, words))
        shutil.rmtree(f"{run}-2", ignore_errors=True)
    assert kept is None or len(kept) > 10


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"])
def test_s2_checkpoints_that_lie_are_named(name: str, run: Path) -> None:
    path = checkpoint.step_directory(run, 4)
    for step in (0, 2):
        shutil.rmtree(checkpoint.step_directory(run, step), ignore_errors=True)
    for kind, text in {**hostile.CHECKPOINT_TEXTS, **(hostile.LIES if name.endswith(".safetensors") else {})}.items():
        (path / name).write_bytes(text)
        if name != "MANIFEST.json":
            hostile.reseal(path)
        for words in commands(run)[: 2 if kind in hostile.TEXTS else 1]:
            answer = hostile.ask(*words)
            hostile.assert_calm(answer, (name, kind, words))
            assert answer.code == 3 and "step-00000004" in answer.err, (kind, answer)


def test_s2_a_checkpoint_of_another_network_says_so(run: Path, tmp_path: Path) -> None:
    other, _, _ = runs.start(tmp_path, "train.steps=2", "model=linear", "train.eval_every=0")
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    for words in (commands(run)[0], commands(run)[1], commands(run)[4]):
        answer = hostile.ask(*words)
        hostile.assert_calm(answer, words)
        assert answer.code in (2, 3) and ("differ" in answer.err or "fit" in answer.err), answer.err


def test_s2_names_of_checkpoints_that_are_no_steps_are_passed_over(run: Path) -> None:
    for name in ("step-²", "step--1", "step-x", "step-", "step-99999999999999999999999", "step-0b1", "step-" + "9" * 240):
        (run / "checkpoints" / name).mkdir()
    answer = hostile.ask(*commands(run)[0])
    assert answer.code == 0 and "passed over" in answer.out, answer
