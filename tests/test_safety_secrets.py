"""Promise S3: what the environment holds reaches no file of a run and no line on the screen, whichever way it was let in."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import hostile
import pytest

from dlrun import redact
from dlrun.redact import SECRET_NAME

CANARY = "c4n4ry"
SECRETS = {
    name: f"{CANARY}-{name.lower()}-7f3a9b{i}"
    for i, name in enumerate(
        """WANDB_API_KEY AWS_SECRET_ACCESS_KEY GITHUB_TOKEN HF_TOKEN DB_PASSWORD MY_PASSPHRASE SENTRY_DSN OPENAI_API_KEY PGPASSWORD
        DLRUN_NOTE SOME_OTHER PROXY_LOGIN LS_COLORS PS1 QUOTED""".split()  # noqa: SIM905
    )
}
SECRETS["QUOTED"] = f'{CANARY} "with" \\quotes\\ and ünï'

PLUGIN = """
from dlrun import LossTask, Splits, register
import torch

@register.dataset
def talkative(*, password: str = "none", rows: int = 32):
    from dlrun import DataSpec
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    y = (x.sum(1) > 0).long()
    spec = DataSpec(in_shape=(4,), out_shape=(2,), kind="classification", classes=2, source=f"db://user:{password}@host",
                    split_rule=password, notes=(f"connected with {password}",))
    return Splits((x, y), (x, y), (x, y), spec)

@register.dataset
def failing(*, password: str = "none"):
    raise RuntimeError(f"cannot connect with {password}")

@register.dataset
def refusing(*, password: str = "none"):
    raise ValueError(f"{password} is no password")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PLUGIN)
    return tmp_path


def dlrun(place: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **SECRETS, "DLRUN_CACHE": str(place / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "dlrun", *words], cwd=place, env=environment, capture_output=True, timeout=120, check=False
    )


def forms(secret: str) -> list[bytes]:
    """A value as it may stand in files: as it is, in JSON, in YAML, in an address, in base64 at any offset."""
    encoded = [base64.b64encode(b"x" * i + secret.encode())[4 * (i > 0) :].rstrip(b"=")[:-2] for i in range(3)]
    return [secret.encode(), json.dumps(secret)[1:-1].encode(), quote(secret).encode(), repr(secret)[1:-1].encode(), *encoded]


def leaks(place: Path, *texts: bytes) -> list[str]:
    """Where the canaries sing: files below `place` (zipped ones unpacked) and `texts`."""
    files = {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file() and path.name != "mine.py"}
    files |= {f"{name} (unzipped)": gzip.decompress(text) for name, text in files.items() if text[:2] == b"\x1f\x8b"}
    files |= {f"output {i}": text for i, text in enumerate(texts)}
    assert any(text for text in files.values())
    return [
        f"{secret} in {name}"
        for name, text in files.items()
        for value in SECRETS.values()
        for secret in {value}
        if any(f in text for f in forms(value))
    ]


INTERPOLATED = [
    "dataset.password='${oc.env:SOME_OTHER}'",
    "log.wandb.notes='${oc.env:DLRUN_NOTE} and ${oc.env:QUOTED}'",
    "log.wandb.name='${oc.env:PROXY_LOGIN}'",
    "log.wandb.tags=['${oc.env:PS1}']",
    "tags=['${oc.env:LS_COLORS}','${oc.env:GITHUB_TOKEN}']",
    "source='${oc.env:WANDB_API_KEY}'",
]
TRAIN = ("train", "--plugin", "mine.py", "dataset=talkative", "model=linear", "train.steps=3", "train.batch_size=8", "run_dir=run")


def test_a_whole_run_holds_no_secret(place: Path) -> None:
    """Offline W&B, TensorBoard, figures, a resume and an evaluation; variables interpolated, filled in by the shell, and merely there."""
    typed = [f"log.wandb.group={SECRETS['HF_TOKEN']}", f"log.wandb.project=x-{SECRETS['PGPASSWORD']}"]
    first = dlrun(place, *TRAIN, *INTERPOLATED, *typed, "log.wandb.mode=offline", "log.tensorboard=true", "log.watch=all")
    assert first.returncode == 0, first.stderr
    again = dlrun(place, "resume", "run", "train.steps=4", "--plugin", "mine.py")
    judged = dlrun(place, "eval", "run", "--plugin", "mine.py", "--json")
    shown = dlrun(place, *TRAIN, *INTERPOLATED, *typed, "--cfg")
    looked = dlrun(place, "data", "--plugin", "mine.py", "dataset=talkative", "model=linear", INTERPOLATED[0], "--json")
    assert [again.returncode, judged.returncode, shown.returncode, looked.returncode] == [0] * 4, (
        again.stderr,
        judged.stderr,
        looked.stderr,
    )
    texts = [text for done in (first, again, judged, shown, looked) for text in (done.stdout, done.stderr)]
    assert leaks(place, *texts) == []
    assert list((place / "run" / "wandb").glob("offline-run-*/run-*.wandb")) and list((place / "run" / "tensorboard").glob("events.*"))
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    assert "${oc.env:HF_TOKEN}" in manifest["command_line"] and manifest["data"]["source"] == "db://user:${oc.env:SOME_OTHER}@host"
    config = (place / "run" / "config.yaml").read_text()
    assert "password: ${oc.env:SOME_OTHER}" in config and "group: ${oc.env:HF_TOKEN}" in config
    assert b"are kept from W&B" in first.stdout


@pytest.mark.parametrize("dataset", ["failing", "refusing"])
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_an_error_of_a_part_holds_no_secret(dataset: str, flags: tuple[str, ...], place: Path) -> None:
    words = (
        "train",
        "--plugin",
        "mine.py",
        f"dataset={dataset}",
        "dataset.password='${oc.env:SOME_OTHER}'",
        "log.wandb.mode=disabled",
        *flags,
    )
    done = dlrun(place, *words)
    assert done.returncode in (2, 3) and b"${oc.env:SOME_OTHER}" in done.stderr
    assert leaks(place, done.stdout, done.stderr) == []


WRONG = [
    ("model.width='${oc.env:SOME_OTHER}'",),
    ("model='${oc.env:SOME_OTHER}'",),
    ("device='${oc.env:SOME_OTHER}'",),
    ("events.a='${oc.env:SOME_OTHER}'",),
    ("probes=['${oc.env:SOME_OTHER}']",),
    ("dataset=text_file", "dataset.path='${oc.env:SOME_OTHER}'", "task=language_model", "model=transformer"),
    ("dataset=image_folder", "dataset.folder='${oc.env:SOME_OTHER}'"),
    ("dataset=cifar10", "dataset.folder='${oc.env:SOME_OTHER}'"),
    ("start.from='${oc.env:SOME_OTHER}'", "model=linear"),
    ("start={from: x, freeze: ['${oc.env:SOME_OTHER}']}", "model=linear"),
    ("log.wandb.mode='${oc.env:SOME_OTHER}'",),
    ("train.eval_splits=['${oc.env:SOME_OTHER}']",),
    (f"model.width={SECRETS['HF_TOKEN']}",),
    (f"nope.api_key={SECRETS['AWS_SECRET_ACCESS_KEY']}",),
    (f"log.wandb.api_key={SECRETS['WANDB_API_KEY']}",),
    (f"dataset={SECRETS['GITHUB_TOKEN']}",),
    (f"seed=[{SECRETS['GITHUB_TOKEN']}",),
]


@pytest.mark.parametrize("overrides", WRONG, ids=[f"{i}-{words[-1][:25]}" for i, words in enumerate(WRONG)])
def test_an_error_about_a_value_does_not_tell_it(overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {**SECRETS, "DLRUN_CACHE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    for flags in ((), ("--json",)):
        answer = hostile.ask("train", *overrides, *flags, "checks=none")
        hostile.assert_calm(answer, overrides)
        assert answer.code in (2, 3), answer
        assert CANARY not in answer.out + answer.err, answer


def test_which_names_are_secret() -> None:
    yes = "KEY API_KEY WANDB_API_KEY AWS_SECRET_ACCESS_KEY TOKEN HF_TOKEN_2 PGPASSWORD PASSWORD DB_PASS SECRET CREDENTIALS my_secret GH_PAT"
    no = "PATH HOME USER KEYBOARD TOKENIZERS_PARALLELISM PATTERN PASSAGE LANG SECRETARY MONKEYS COMPASS PASSED XDG_DATA_HOME"
    assert all(SECRET_NAME.search(name) for name in yes.split()) and not any(SECRET_NAME.search(name) for name in no.split())


def test_ordinary_values_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    redact.note_environment({"API_KEY": "12", "TOKEN": "0.125", "SECRET": str(tmp_path)[:9], "PASSWORD": "abcd", "EMPTY_KEY": ""})
    redact.note_taken("MODE", "offline")
    redact.note_taken("SEED", "1234567")
    redact.note_taken("WANDB_PROJECT", "my-project-1")
    text = f"W&B: offline; 12 steps, loss 0.125, seed 1234567, {tmp_path}, my-project-1"
    assert redact.redact(text) == text
    assert redact.redact("xabcdx") == "x${oc.env:PASSWORD}x"
    redact.note_environment({"A_KEY": "sesame", "B_KEY": "open sesame"})
    assert redact.redact("open sesame, sesame") == "${oc.env:B_KEY}, ${oc.env:A_KEY}"
    redact.note_environment({})
