"""Promise S4: names that people choose are text, in paths, terminals, logs, figures, TensorBoard and shells, whatever they consist of."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import hostile
import pytest
import runs
import yaml
from matplotlib.figure import Figure
from PIL import Image

from dlrun.config import compose
from dlrun.config.dump import dump
from dlrun.errors import DlrunError, UsageError
from dlrun.rundir import new_directory, safe_name
from dlrun.sinks.figures import draw, draw_look
from dlrun.sinks.paint import literal, save
from dlrun.types import Look

NAMES = [
    "[/x]", "[red]red[/red]", "[link=file:x]y[/link]", "$\\frac", "$\\frac{1}{0}$", "a_b^{c", "%s %d {0} {x}", "\x1b[2J\x1b]0;title\x07",
    "\u202egpj.exe", "line\nerror: forged", "a\rb", "a\tb", "\u2028line", "zero\u200bwidth", "\ufeffbom", "e\u0301\u0301\u0301", "宽" * 30,
    "<img src=x onerror=alert(1)>", "</script><script>", "&amp;", "'; rm -rf ~; '", "$(touch pwned)", "`touch pwned`", "-rf", "--help", "~",
    "a b", "x" * 200, "NUL", "=1+1", "\\", "\ud800", "${seed}",
]  # fmt: skip
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def clean(text: str) -> bool:
    return not CONTROL.search(text)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a class for every name that a file system takes."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(NAMES):
        if "/" in name or "\ud800" in name:
            name = name.replace("/", "|").replace("\ud800", "\udcff")
        os.mkdir(os.fsencode(folder) + b"/" + name.encode("utf-8", "surrogateescape"))
        for i in range(6):
            place = os.path.join(folder, name, f"{name[:40]}{i}.png")
            Image.new("L", (8, 8), (7 * number + i) % 256).save(place)
    return folder


@pytest.mark.slow
def test_classes_of_any_name_train_and_are_drawn(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes_of_any_name(pictures, tmp_path, monkeypatch, "log.tensorboard=true", "log.wandb.mode=offline")


def test_classes_of_any_name(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes_of_any_name(pictures, tmp_path, monkeypatch, "log.wandb.mode=disabled")


def classes_of_any_name(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *logs: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLRUN_CACHE", str(tmp_path / "cache"))
    words = ["dataset=image_folder", f"dataset.folder={pictures}", "dataset.size=8", "dataset.channels=1", "model=linear"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph")
        trained = hostile.ask("train", *words, "train.steps=2", "train.batch_size=16", "run_dir=run", *logs)
        looked = hostile.ask("data", *words, "--out", "out")
        judged = hostile.ask("eval", "run", "--json")
    for answer in (trained, looked, judged):
        assert answer.code == 0 and clean(answer.out + answer.err), (answer.err, CONTROL.search(answer.out + answer.err))
    assert "\nerror: forged" not in trained.out + looked.out
    files = [path for path in (tmp_path / "run").rglob("*") if "wandb" not in path.parts]
    assert all(re.fullmatch(r"[\w.+-]+", path.name) for path in files) and clean((tmp_path / "run/log.txt").read_text())
    assert not list(tmp_path.rglob("pwned"))
    drawn = [*(tmp_path / "run/figures").glob("*.png"), *(tmp_path / "out").glob("*.png")]
    assert {"curves", "confusion", "worst-errors"} <= {path.stem for path in drawn}
    for path in drawn:
        Image.open(path).verify()


@pytest.mark.parametrize("name", NAMES[::4], ids=range(len(NAMES[::4])))
def test_a_name_is_drawn_letter_by_letter(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph")
        for kind, data in (
            ("lines", {name: [1, 2], "xlabel": name}),
            ("text", [name]),
            ("scatter", {name: [[0.0, 1.0]], "b": [[0.0, 1.0]]}),
        ):
            draw_look(tmp_path / f"{kind}.png", Look(kind, data, name), name)
    assert "$" not in literal(name).replace(r"\$", "") and clean(literal(name).replace("\n", ""))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph")
        (tmp_path / "run").mkdir()
        (tmp_path / "run/metrics.jsonl").write_text(json.dumps({"step": 1, f"val/{name}": 1.0, name: 2.0}) + "\n")
        written = draw(tmp_path / "run", {name: Look("text", "x", "y")}, [[1, 2], [3, 4]], [name, name])
    assert all(path.parent == tmp_path / "run/figures" and path.is_file() for path in written)


def test_what_is_drawn_of_a_name_is_the_name(tmp_path: Path) -> None:
    seen = []

    def look(figure: Figure) -> None:
        seen.append(figure.text(0, 0, literal("$\\frac{1}{2}$")))

    save(tmp_path / "x.png", look, "t")
    assert seen[0].get_text() == r"\$\frac{1}{2}\$"


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_paths_of_runs_hold_no_more_than_a_name(name: str, tmp_path: Path) -> None:
    path = new_directory({"output_root": str(tmp_path), "experiment": name, "arm": name, "seed": 0, "run_dir": None})
    assert (
        path.parent.parent == tmp_path
        and re.fullmatch(r"[\w.-]+", path.name, re.ASCII)
        and re.fullmatch(r"[\w.-]+", path.parent.name, re.ASCII)
    )
    assert len(safe_name(name)) <= 80 and not safe_name(name).startswith(("-", "."))


TEXTS = ["log.wandb.notes", "log.wandb.name", "log.wandb.project", "source", "recorded"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_texts_of_a_config_read_back_and_messages_are_one_line(name: str, tmp_path: Path) -> None:
    tree = {"log": {"wandb": {"notes": name, "tags": [name]}}, "tags": [name], "source": name, "events": {name: name}}
    for key, value in (
        (None, None),
        ("dataset", {"name": name}),
        ("model", {name: 1}),
        (name, 1),
        ("task", name),
        ("probes", [name]),
        ("device", name),
    ):
        file = tmp_path / "x.yaml"
        text = yaml.safe_dump(tree if key is None else {**tree, key: value}, allow_unicode=False).encode("utf-8", "surrogatepass")
        file.write_bytes(text)
        try:
            saved = compose([], from_file=file).saved
        except UsageError as error:
            assert all(line.isprintable() and len(line) < 1500 for line in error.lines), error.lines
        else:
            again = tmp_path / "again.yaml"
            again.write_text(dump(saved), encoding="utf-8", errors="strict")
            assert clean(again.read_text()) and compose([], from_file=again).saved == saved


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_words_of_the_command_line_are_shown_clean(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = name.replace("\ud800", "\udcff")  # as a byte that is no UTF-8 comes in
    for words in (
        ("train", f"model={name}"),
        ("train", name),
        ("train", f"{name}=1"),
        ("train", "--from", name),
        ("train", "--config-dir", name, "seed=x"),
        ("train", "--plugin", name),
        ("resume", name),
        ("eval", name, "--split", name),
        ("eval", ".", "--step", name),
        ("show", name),
        ("show", f"model/{name}"),
        ("ls", name),
        ("ls", "runs", f"output_root={name}"),
        ("ls", "runs", "--tag", name),
        ("sync", name),
        ("eject", f"model/{name}"),
        ("new", "model", name),
        ("completion", name),
        (name,),
    ):
        answer = hostile.ask(*words)
        assert answer.code in (0, 2, 3) and "Traceback" not in answer.err, (words, answer)
        assert clean(answer.out + answer.err) and "\nerror: forged" not in answer.err, (words, answer)
    assert not list(tmp_path.rglob("pwned"))


def test_a_folder_of_any_name_holds_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlrun.wrapup.draw_figures", lambda session: None)  # 1.5 s a run
    for name in ("[x] $(touch pwned)", "a'b;c", "\u202eback\x1b[31m", "-rf", "宽 宽"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        _, _, code = runs.start(Path(), "train.steps=1", "model=linear", "train.eval_every=0")
        listed = hostile.ask("ls", "runs", f"output_root={tmp_path / name}")
        judged = hostile.ask("eval", str(tmp_path / name / "run"))
        more = hostile.ask("resume", str(tmp_path / name / "run"), "train.steps=2", "train.max_seconds=1e-9", "log.wandb.mode=disabled")
        assert code == 0 and [listed.code, judged.code] == [0, 0] and more.code in (0, 75)
        assert clean(listed.out + judged.out + more.out + more.err)
    assert not list(tmp_path.rglob("pwned"))


def test_the_way_to_go_on_is_quoted_for_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = "a b; touch pwned #"
    answer = hostile.ask("train", "train.steps=5", "model=linear", f'run_dir="{path}"', "train.max_seconds=1e-9", "log.wandb.mode=disabled")
    assert answer.code == 75
    (line,) = [line for line in answer.out.splitlines() if "go on with: " in line]
    assert shlex.split(line.partition("go on with: ")[2], comments=True)[2] == path


def test_completion_offers_nothing_that_a_shell_acts_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        file = tmp_path / "conf/experiment" / f"{name.replace('/', '|')}.yaml"
        try:
            file.write_text(f"# about {number}\ntags: [{json.dumps(name)}]\n")
        except (OSError, UnicodeError):
            continue
    (tmp_path / "conf/experiment/gone.yaml").symlink_to("/etc/passwd")
    monkeypatch.chdir(tmp_path)
    for words in (["experiment="], ["--tag", ""], ["--config-dir", "conf", "experiment="]):
        base = ["train", "--config-dir", "conf"] if words[0] != "--tag" else ["ls", "experiment", "--config-dir", "conf"]
        answer = hostile.ask("completion", "--for", "bash", "--", *base, *words)
        assert answer.err == "" and clean(answer.out.replace("\t", ""))
        for line in answer.out.splitlines():
            assert re.fullmatch(r"[\w\-+.,/=~@:\[\]| ]*(\t.*)?", line), line


def test_names_of_slots_and_parts_are_plain(tmp_path: Path) -> None:
    """What becomes the name of a file or of a metric is letters, digits and _ from the start."""
    (tmp_path / "experiment").mkdir()
    for name in NAMES:
        for group in ("metric", "augment", "optimizer"):
            text = yaml.safe_dump({group: {name: {"name": {"metric": "accuracy", "augment": "noise", "optimizer": "sgd"}[group]}}})
            (tmp_path / "experiment/x.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
            if name == "NUL":  # a name like any other
                continue
            with pytest.raises(DlrunError):
                compose(["experiment=x"], config_dir=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8")
def test_a_program_gets_names_that_are_no_text(tmp_path: Path) -> None:
    command = [sys.executable.encode(), b"-m", b"dlrun", b"train", b"model=\xff\xfe", b"run_dir=\xff"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 2 and b"Traceback" not in done.stderr and done.stderr.count(b"\n") <= 2 and b"error: " in done.stderr
