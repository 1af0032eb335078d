"""Promise S2 on size: files that claim or unpack to gigabytes end in one line, in bounded memory, in a process of its own with a limit."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import runs

from dlrun import checkpoint

DRIVER = """
import json, resource, sys, time
sys.path.append(sys.argv[1])
import torch, hostile
import dlrun.wrapup, dlrun.train, dlrun.cli.eval, dlrun.cli.resume, dlrun.loading, dlrun.cli.ls, dlrun.cli.data
dlrun.wrapup.draw_figures = lambda session: None
hostile.ask("check", "model=linear", "train.steps=1")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (768 << 20),) * 2)
for line in sys.stdin:
    words = json.loads(line)
    began = time.perf_counter()
    answer = hostile.ask(*words)
    print(json.dumps([answer.code, answer.err, answer.seconds]), flush=True)
"""
GIB = 1 << 30


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    steps = ("train.steps=4", "train.checkpoint_every=2", "train.eval_every=0", "train.keep_last=1", "model.width=8")
    return runs.start(tmp_path_factory.mktemp("whole"), *steps)[0]


def sparse(path: Path, size: int, head: bytes = b"") -> None:
    """A file of `size` bytes that occupies a few."""
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)


def reseal_size(path: Path, size: int) -> None:
    """A manifest that agrees on the size (nobody computes the sum of a terabyte)."""
    manifest = json.loads((path / "MANIFEST.json").read_text())
    del manifest["sha256"]
    manifest["files"]["model.safetensors"]["bytes"] = size
    (path / "MANIFEST.json").write_text(json.dumps(checkpoint._sealed(manifest)))


def as_header(size: int) -> bytes:
    """That of a safetensors file of `size` bytes with a single tensor of zeros."""
    text = json.dumps({"a": {"dtype": "U8", "shape": [size - 128], "data_offsets": [0, size - 128]}}).encode().ljust(120)
    return len(text).to_bytes(8, "little") + text


CASES = [
    ("config.yaml", GIB, b"seed: 1\n"),
    ("summary.json", 10 * GIB, b'{"status": "'),
    ("manifest.json", 10 * GIB, b"{}"),
    ("metrics.jsonl", 10 * GIB, b'{"step": 0}\n'),
    ("events.jsonl", 10 * GIB, b'{"event": "started"}\n'),
    ("histograms.jsonl", 10 * GIB, b'{"step": 0}\n'),
    ("checkpoints/step-00000004/state.json", 10 * GIB, b"{"),
    ("checkpoints/step-00000004/MANIFEST.json", 10 * GIB, b"{"),
    ("checkpoints/step-00000004/model.safetensors", 1024 * GIB, b""),
    ("checkpoints/step-00000004/model.safetensors", 1024 * GIB, as_header(1024 * GIB)),
]


def spoiled(run: Path, copy: Path, name: str, size: int, head: bytes) -> None:
    """A copy of `run` with one file made sparse."""
    shutil.copytree(run, copy)
    summary = json.loads((copy / "summary.json").read_text())
    (copy / "summary.json").write_text(json.dumps({**summary, "status": "interrupted"}))
    sparse(copy / name, size, head)
    if name.endswith(".safetensors"):
        reseal_size(copy / "checkpoints/step-00000004", size)


def told(driver: subprocess.Popen[str], words: list[str]) -> tuple[int, str, float]:
    """What the driver says to `words`: exit code, stderr, CPU seconds."""
    assert driver.stdin is not None and driver.stdout is not None
    driver.stdin.write(json.dumps(words) + "\n")
    driver.stdin.flush()
    line = driver.stdout.readline()
    assert line, (words, driver.communicate()[1][-2000:])
    code, err, seconds = json.loads(line)
    return code, err, seconds


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_s2_huge_files_cost_neither_memory_nor_time(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", DRIVER, str(Path(__file__).parent)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as driver:
        for number, (name, size, head) in enumerate(CASES):
            folder = tmp_path / str(number)
            spoiled(run, folder / "e" / "run", name, size, head)
            for words in (
                ["resume", "e/run", "train.steps=5", "log.wandb.mode=disabled"],
                ["eval", "e/run"],
                ["ls", "runs", "output_root=."],
            ):
                code, err, seconds = told(driver, [word.replace("e/run", f"{folder}/e/run").replace("=.", f"={folder}") for word in words])
                assert "Traceback" not in err and "MemoryError" not in err and "out of memory" not in err, (name, words, err)
                assert code in (0, 2, 3) and err.count("\n") <= 3 and seconds < 4, (name, words, code, err, seconds)
            shutil.rmtree(folder)
        assert driver.stdin is not None
        driver.stdin.close()
        assert driver.wait(30) == 0


def test_s2_bombs_of_yaml_are_refused_at_once(tmp_path: Path) -> None:
    from hostile import ask, assert_calm

    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    bombs = {
        "laughs": laughs.encode(),
        "circle": b"a: &a [*a]\n",
        "merge": b"a: &a {b: 1}\nc: {<<: *a}\n",
        "deep": b"a: " + b"[" * 100_000,
        "deep blocks": b"".join(b" " * i + b"a:\n" for i in range(600)),
        "wide": b"a: [" + b"1," * 120_000 + b"1]\n",
        "keys": b"".join(b"k%d: 1\n" % i for i in range(18_000)),
        "same keys": b"seed: 1\n" * 30_000,
        "integer": b"seed: " + b"9" * 200_000 + b"\n",
        "float": b"seed: 1e" + b"9" * 4000 + b"\n",
        "code": b"seed: !!python/object/apply:os.system [echo]\n",
        "NUL": b"seed: 1\0\n",
        "UTF-16": "seed: 1\n".encode("utf-16"),
        "interpolations": b"a0: x\n" + b"".join(b"a%d: ${a%d}${a%d}\n" % (i, i - 1, i - 1) for i in range(1, 60)),
    }
    for name, text in bombs.items():
        (tmp_path / "x.yaml").write_bytes(text)
        answer = ask("train", "--from", str(tmp_path / "x.yaml"))
        assert_calm(answer, name, most=101)
        assert answer.code == 2 and "x.yaml" in answer.err, (name, answer)
    for place in ("/dev/zero", "/dev/stdin", "/proc/self/environ", str(tmp_path), "/proc/self/mem"):
        answer = ask("train", "--from", place)
        assert_calm(answer, place)
        assert answer.code == 2 and "PATH=" not in answer.err, (place, answer)


def test_the_limits_of_this_process_are_as_before() -> None:
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
