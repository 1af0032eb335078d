"""`dlrun completion`: what is offered where, in three real shells; names that would do harm stay names."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import SHELLS, Terminal, command

from dlrun.cli import main
from dlrun.cli.arguments import COMMANDS
from dlrun.cli.completing import candidates, unquoted
from dlrun.cli.help import is_there
from dlrun.cli.overriding import Typed
from dlrun.config import compose
from dlrun.config.places import GROUPS, SLOT_GROUPS, part_names


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def offered(*words: str) -> list[str]:
    """The candidates for the last word, without descriptions and directives."""
    return [line.split("\t")[0] for line in candidates(list(words[:-1]), words[-1]) if not line.startswith(":")]


def directives(*words: str) -> list[str]:
    return [line for line in candidates(list(words[:-1]), words[-1]) if line.startswith(":")]


# -- what is offered --------------------------------------------------------------------------------------------------------------------


def test_commands() -> None:
    assert set(offered("")) == {name for name in COMMANDS if is_there(name)} | {"--help", "--version"}
    assert offered("tr") == ["train"] and offered("nope", "") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "mod"], ["model=", "model."]),
        (["train", "model=ml"], ["model=mlp"]),
        (["train", "model.w"], ["model.width="]),
        (["train", "model=cnn", "model.b"], ["model.blocks="]),
        (["train", "optimizer.lr="], ["optimizer.lr=0.001"]),
        (["train", "optimizer=sgd", "optimizer.nest"], ["optimizer.nesterov="]),
        (["train", "optimizer=sgd", "optimizer.nesterov="], ["optimizer.nesterov=true", "optimizer.nesterov=false"]),
        (["train", "model.activation=g"], ["model.activation=gelu"]),
        (["train", "train.prec"], ["train.precision="]),
        (["train", "train.precision=b"], ["train.precision=bf16"]),
        (["train", "train.clip_norm="], ["train.clip_norm=null", "train.clip_norm=1.0"]),
        (["train", "log.wandb.mo"], ["log.wandb.mode="]),
        (["train", "log.wandb.mode=o"], ["log.wandb.mode=offline", "log.wandb.mode=online"]),
        (["train", "device=c"], ["device=cpu", "device=cuda"]),
        (["train", "task=gan", "model."], ["model.generator=", "model.generator.", "model.critic=", "model.critic."]),
        (["train", "task=gan", "model.critic=cn"], ["model.critic=cnn"]),
        (["train", "task=gan", "model.critic=cnn", "model.critic.b"], ["model.critic.blocks="]),
        (["train", "task=gan", "optimizer.critic.b"], ["optimizer.critic.betas="]),
        (["train", "experiment=gan_r"], ["experiment=gan_ring"]),
        (["train", "experiment=gan_ring", "dataset.rad"], ["dataset.radius="]),
        (["train", "+experiment=gan_r"], ["+experiment=gan_ring"]),
        (["train", "augment.fl"], ["augment.flip="]),
        (["train", "augment.flip=fl"], ["augment.flip=flip"]),
        (["train", "augment.flip=flip", "augment.flip.ax"], ["augment.flip.axis="]),
        (["train", "augment.flip=flip", "~aug"], ["~augment.flip"]),
        (["train", "loss=mse", "loss.label"], []),
        (["train", "loss.label"], ["loss.label_smoothing="]),
        (["train", "start.st"], ["start.step=", "start.strict="]),
        (["train", "expects.caus"], ["expects.causal="]),
        (["resume", "outputs/x", "train."], ["train.steps=", "train.max_seconds="]),
        (["resume", "outputs/x", "mod"], []),
        (["check", "--de"], ["--deep"]),
        (["eval", "--split", "te"], ["test"]),
        (["eval", "--split=te"], ["--split=test"]),
        (["train", "--plugin", "a.py", "--plug"], ["--plugin"]),
        (["train", "--pdb", "--pd"], []),
        (["train", "--cfg", "model=ml"], ["model=mlp"]),
        (["show", "mode"], ["model/"]),
        (["show", "model/ml"], ["model/mlp"]),
        (["show", "train.clip"], ["train.clip_norm"]),
        (["show", "experiment/gan"], ["experiment/gan_ring"]),
        (["ls", "run"], ["runs"]),
        (["help", "trai"], ["train"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["ls", "--tag", "6.7960/lecture14"], ["6.7960/lecture14"]),
    ],
)
def test_what_is_offered(words: list[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_every_option_that_is_offered_is_one_and_none_is_forgotten() -> None:
    """Against the real composition, for tasks with one network and with two."""
    for words in ([], ["task=gan", "dataset=ring"], ["experiment=gan_ring"], ["model=cnn", "optimizer=sgd", "schedule=cosine"]):
        resolved = compose(words).resolved
        slots = Typed(words).chosen()
        for slot, name in slots.items():
            node = resolved
            for step in slot.split("."):
                node = node[step]
            keys = {f"{slot}.{key}=" for key in node if key not in ("name", "slots")}
            assert node["name"] == name and set(offered("train", *words, f"{slot}.")) - {"optimizer.owns="} == keys
        filled = {slot for group in SLOT_GROUPS if group != "metric" for slot in _slots(group, resolved.get(group))}
        assert set(slots) == filled


def _slots(group: str, node: object) -> list[str]:
    if not isinstance(node, dict) or not node:
        return []
    return [group] if "name" in node else [f"{group}.{slot}" for slot in node]


@pytest.mark.parametrize("group", [group for group in GROUPS if part_names(group) and group in SLOT_GROUPS and group != "augment"])
def test_every_part_is_offered(group: str) -> None:
    names = {text.removeprefix(f"{group}=") for text in offered("train", f"{group}=")} - {"null"}
    assert names == set(part_names(group))


def test_parts_of_a_plugin_are_read_and_never_run(here: Path) -> None:
    (here / "mine.py").write_text(
        "open('ran', 'w').close()\nfrom typing import Literal\nfrom dlrun import register\n\n@register.model\n"
        "def net(in_shape, out_shape, *, width: int = 64, kind: Literal['a', 'b'] = 'a'):\n    ...\n\n"
        "@register.metric(best='max')\ndef hits(out, y):\n    ...\n"
    )
    for flag in (["--plugin", "mine.py"], ["--plugin=mine.py"]):
        assert offered("train", *flag, "model=ne") == ["model=net"] and offered("train", *flag, "metric=hit") == ["metric=hits"]
        assert offered("train", *flag, "model=net", "model.") == ["model.width=", "model.kind="]
        assert offered("train", *flag, "model=net", "model.kind=") == ["model.kind=a", "model.kind=b"]
    (here / "broken.py").write_text("def (:\n")
    assert offered("train", "--plugin", "broken.py", "--plugin", "/dev/zero", "model=ml") == ["model=mlp"]
    assert not (here / "ran").exists()


def test_yaml_of_ones_own(here: Path) -> None:
    (here / "conf/experiment").mkdir(parents=True)
    (here / "conf/experiment/mine.yaml").write_text("# Mine.\narms: {fast: {}, slow: {optimizer.lr: 1}}\n")
    (here / "conf/experiment/block.yaml").write_text("# Mine.\nmodel: cnn\narms:\n  fast: {}\n  slow:\n    optimizer.lr: 1\n")
    assert offered("train", "--config-dir", "conf", "experiment=mi") == ["experiment=mine"]
    for name in ("mine", "block"):
        assert offered("train", "-cd", "conf", f"experiment={name}", "arm=") == ["arm=fast", "arm=slow"]
    assert offered("train", "-cd", "conf", "experiment=block", "model.blo") == ["model.blocks="]


def test_runs_newest_first_and_checkpoints(here: Path) -> None:
    for name in ("20260101-000000-s0", "20260102-000000-s0", "20260103-\x1b[31m"):
        (here / "outputs/default" / name / "checkpoints/step-00000100").mkdir(parents=True)
    lines = candidates(["resume"], "out")
    assert lines == [":paths", "outputs/default/20260102-000000-s0", "outputs/default/20260101-000000-s0"]
    assert offered("eval", "outputs/default/20260101-000000-s0", "--step", "") == ["best", "last", "100"]
    assert candidates(["eval", "outputs/default/20260101-000000-s0"], "") == []
    assert candidates(["resume"], "/nowhere") == [":paths", ":folders"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "--plugin", ""], [":files .py"]),
        (["train", "--from", ""], [":files .yaml"]),
        (["train", "--config-dir="], [":folders"]),
        (["train", "run_dir="], [":folders"]),
        (["train", "dataset=text_file", "dataset.path="], [":files "]),
        (["train", "model."], [":nospace"]),
        (["train", "model=ml"], []),
        (["ls", "runs", "output_root="], [":folders"]),
    ],
)
def test_what_the_shell_is_told(words: list[str], expected: list[str]) -> None:
    assert directives(*words) == expected


def test_a_probe_is_offered_behind_a_run_and_its_options_behind_it() -> None:
    assert "knn" not in offered("probe", "") and offered("probe", "RUN", "kn") == ["knn"]
    assert offered("probe", "RUN", "knn", "m") == ["metric="] and offered("probe", "RUN", "knn", "metric=") == [
        "metric=cosine",
        "metric=euclidean",
    ]
    assert ":paths" in directives("probe", "RUN", "") and ":paths" not in directives("probe", "RUN", "knn", "")
    assert offered("probe", "RUN", "knn", "nope=") == []


def test_nothing_a_shell_would_act_on_is_offered(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "conf/experiment").mkdir(parents=True)
    for name in ("$(touch ran)", "a;b", "ok"):
        (here / f"conf/experiment/{name}.yaml").write_text("# \x1b[31mA `$(touch ran)`.\ntags: ['$(touch ran)', fine]\n")
    names = offered("train", "-cd", "conf", "experiment=")
    assert "experiment=ok" in names and not any(sign in "".join(names) for sign in "$;")
    assert "\x1b" not in "".join(candidates(["train", "-cd", "conf"], "experiment="))
    assert offered("ls", "-cd", "conf", "--tag", "f") == ["fine"] and offered("ls", "-cd", "conf", "--tag", "$") == []


@pytest.mark.parametrize(
    ("typed", "plain"),
    [("a\\ b", "a b"), ("'a b", "a b"), ('"a $(x)"', "a $(x)"), ("'a\\b'", "a\\b"), ('"a\\"b"', 'a"b'), ("a'b'\"c\"", "abc"), ("\\", "\\")],
)
def test_words_of_bash_are_read_and_not_expanded(typed: str, plain: str) -> None:
    assert unquoted(typed) == plain


@pytest.mark.parametrize(
    "typed", [[], [""], ["train", "=", "x"], ["train", "a=b=c"], ["train", "~", "\x00"], ["train", "..", "model..="], ["+"]]
)
def test_odd_words_are_no_error(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "--for", "bash", "--", *typed, ""]) in (0, 1)
    assert main(["completion", "--for", "bash", "--", *typed]) in (0, 1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("words", "fragment"), [([], "takes one shell"), (["tcsh"], "found tcsh"), (["bash", "zsh"], "takes one shell")])
def test_a_shell_that_is_none(words: list[str], fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *words]) == 2 and fragment in capsys.readouterr().err


# -- in real shells ---------------------------------------------------------------------------------------------------------------------


def test_bash_cuts_words_and_they_are_joined_again(here: Path, tmp_path: Path) -> None:
    """The script under the variables that bash sets, for break characters, quotes and a cursor inside the line."""
    assert shutil.which("bash"), "bash is needed for scripts/dlrun as well"
    script = subprocess.run([command(tmp_path / "bin"), "completion", "bash"], capture_output=True, text=True, check=True).stdout
    cases = [
        ("dlrun train model=m", ["dlrun", "train", "model", "=", "m"], ["mlp"]),
        ("dlrun train model=", ["dlrun", "train", "model", "="], None),
        ("dlrun  train   optimizer.lr=", ["dlrun", "train", "optimizer.lr", "="], ["0.001"]),
        ("dlrun train task=gan model.critic=cn", ["dlrun", "train", "task", "=", "gan", "model.critic", "=", "cn"], ["cnn"]),
        ("dlrun train model.w", ["dlrun", "train", "model.w"], ["model.width="]),
        ("dlrun train 'model=cnn' model.blo", ["dlrun", "train", "'model=cnn'", "model.blo"], ["model.blocks="]),
        ("dlrun eval --split=te", ["dlrun", "eval", "--split", "=", "te"], ["test"]),
        ("dlrun show model/ml", ["dlrun", "show", "model/ml"], ["model/mlp"]),
        ("dlrun ", ["dlrun", ""], None),
    ]
    lines = [script]
    for line, words, _ in cases:
        array = " ".join(f"'{word}'" if "'" not in word else f'"{word}"' for word in words)
        lines.append(f'COMP_WORDS=({array}) COMP_CWORD={len(words) - 1} COMP_LINE="{line}" COMP_POINT={len(line)}')
        lines.append('_dlrun; echo "${COMPREPLY[*]}"')
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, timeout=120, check=False)
    found = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(found) == len(cases), done.stderr
    for (line, _, expected), reply in zip(cases, found, strict=True):
        assert reply == expected if expected else len(reply) > 3, line
    assert set(found[1]) == set(part_names("model"))


@pytest.fixture(params=SHELLS)
def terminal(request: pytest.FixtureRequest, here: Path, tmp_path: Path) -> Iterator[Terminal]:
    shell = request.param
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed: its completion was not tried")
    (tmp_path / "home").mkdir()
    opened = Terminal(shell, here, tmp_path / "home")
    yield opened
    opened.close()


@pytest.mark.slow
def test_tab_in_a_terminal(terminal: Terminal, here: Path) -> None:
    for name in ("my net.py", "$(touch ran) it's.py"):
        (here / name).write_text("from dlrun import register\n")
    run = here / "outputs/default/20260101-000000-$(touch ran);`touch ran`"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 0\n")
    words = terminal.words
    assert words("dlrun train model=m\t", "optimizer.lr=\t", "model.act\t", "ge\t") == [
        "dlrun", "train", "model=mlp", "optimizer.lr=0.001", "model.activation=gelu",
    ]  # fmt: skip
    *first, last = words("dlrun ev\t", "--spl\t", "te\t", "out\t")
    assert first == ["dlrun", "eval", "--split", "test"] and last.rstrip("/") == f"outputs/default/{run.name}"
    assert words("dlrun train --plugin my\t", "dataset=moo\t") == ["dlrun", "train", "--plugin", "my net.py", "dataset=moons"]
    assert words("dlrun train --plugin \\$\t") == ["dlrun", "train", "--plugin", "$(touch ran) it's.py"]
    assert words("dlrun show train.clip\t") == ["dlrun", "show", "train.clip_norm"]
    assert [word.rstrip("/") for word in words("dlrun train run_dir=outp\t")] == ["dlrun", "train", "run_dir=outputs"]
    assert words("~/bin/dlrun train mod\t", "=cn\t")[1:] == ["train", "model=cnn"]
    assert not (here / "ran").exists()
