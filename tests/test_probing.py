"""`dlrun probe`, `probes:` and `measure`: results are kept, used again only where nothing differs, and never cost a run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from architecture_rules import ROOT

from dlrun import registry
from dlrun.checkpoint import weights_sha256
from dlrun.cli import main
from dlrun.config import compose
from dlrun.config.library import Library
from dlrun.config.requests import request
from dlrun.errors import MissingError, UsageError
from dlrun.loading import load
from dlrun.probing import Question, measure
from dlrun.types import Look

TINY = ("model=mlp", "model.width=8", "model.depth=1", "train.steps=4", "train.checkpoint_every=2", "train.eval_every=2")


def document(run: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "probes" / f"{name}.json").read_text())
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return runs.start(tmp_path, *TINY)[0]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A plugin's probe `half`, and a list that grows with each call."""
    calls: list[int] = []

    def half(run, *, of: float = 1.0):  # type: ignore[no-untyped-def]
        """Half of a number, a look, and what is not finite."""
        calls.append(run.step)
        return {"half": of / 2, "rows": 3, "inf": math.inf}, {"half": Look("lines", {"y": [1.0, 2.0]})}

    monkeypatch.setitem(registry.PLUGINS["probe"], "half", half)
    return calls


def ask(path: Path, name: str, *, step: str | int = "last", **options: Any) -> dict[str, Any]:
    return Question(request(Library(), name, options), (path,), step).answer()


# -- at the end of training ---------------------------------------------------------------------------------------------------------------


def test_probes_of_a_config_run_when_the_result_is_safe(tmp_path: Path) -> None:
    run, summary, code = runs.start(tmp_path, *TINY, "probes=[linear_probe,{name: knn,k: 3}]")
    assert code == 0 and summary["status"] == "finished"
    found = document(run, "knn")
    assert found["probe"] == "knn" and found["options"]["k"] == 3 and found["options"]["metric"] == "cosine"
    assert found["step"] == 4 and found["weights_sha256"] == [summary["weights_sha256"]]
    assert set(found["numbers"]) == {"accuracy", "majority", "rows", "features"}
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events[-3:]] == ["finished", "probe", "probe"]
    again, _, _ = runs.start(tmp_path / "plain", *TINY)
    assert weights_sha256(load(again, "last").modules) == summary["weights_sha256"], "a run with probes trains to the same bits"
    (run / "probes" / "knn.json").unlink()
    assert ask(run, "knn", k=3)["numbers"] == found["numbers"], "from the checkpoint come the same numbers, to the bit"


def test_no_step_at_all(tmp_path: Path) -> None:
    run, summary, code = runs.start(tmp_path, "model=linear", "train.steps=0", "probes=[{name: knn,layer: input}]")
    assert code == 0 and summary["step"] == 0 and document(run, "knn")["numbers"]["accuracy"] > 0.9


def test_a_probe_that_fails_is_reported_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run):  # type: ignore[no-untyped-def]
        raise KeyError("no such thing")

    monkeypatch.setitem(registry.PLUGINS["probe"], "broken", broken)
    lines: list[str] = []
    console = runs.console()
    monkeypatch.setattr(console, "line", lambda text, style="": lines.append(str(text)))
    monkeypatch.setattr(runs, "console", lambda: console)
    run, summary, code = runs.start(tmp_path, *TINY, "probes=[broken,logit_lens,knn]")
    assert code == 0 and summary["status"] == "finished" and document(run, "knn")["numbers"]
    assert sorted(path.name for path in (run / "probes").iterdir()) == ["knn.json"]
    failed = [line for line in lines if "failed" in line]
    assert failed[0] == "probe broken failed: KeyError: 'no such thing'; the run itself is whole"
    assert failed[1].startswith("probe logit_lens failed: network model has no blocks") and any(
        line.startswith("probe knn:") for line in lines
    )
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event.get("error", "")[:8] for event in events if event["event"] == "probe"] == ["KeyError", "UsageErr", ""]
    load(run)


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("probes=[knnn]",), "no probe 'knnn'; there are"),
        (("probes=[{name: knn,kk: 3}]",), "no option 'kk'; it has k, metric"),
        (("probes=[{name: knn,k: 0}]",), "probe knn: k: expected an integer >= 1, found 0"),
        (("probes=[{name: knn,metric: cosin}]",), "did you mean cosine?"),
        (("probes=[{k: 3}]",), "expected a probe's name"),
        (("probes=[interpolation]",), "measures two runs, found 1"),
        (("arms={a: {}}", "measures={m: {probe: knn, runs: [b]}}"), "no arm 'b'; there are a"),
        (("arms={a: {}}", "measures={m: {probe: interpolation, runs: [a]}}"), "measures two runs, found 1"),
        (("arms={a: {}}", "measures={m: {runs: [a]}}"), "expected {probe: NAME"),
        (("arms={a: {}}", "measures={m: {probe: knn, runs: a, k: x}}"), "k: expected an integer >= 1, found 'x'"),
    ],
)
def test_what_is_wrong_in_a_config_is_said_before_anything_is_built(words: tuple[str, ...], fragment: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose([*runs.QUIET, *words])
    assert len(caught.value.lines) == 1 and fragment in caught.value.lines[0]


# -- results that are kept ----------------------------------------------------------------------------------------------------------------


def test_a_result_is_used_again_only_where_nothing_differs(run: Path, counted: list[int]) -> None:
    first = ask(run, "half")
    assert first["numbers"] == {"half": 0.5, "rows": 3, "inf": "inf"} and first["figures"] == ["probe-half.png"]
    assert ask(run, "half")["numbers"] == first["numbers"] and counted == [4]
    other = ask(run, "half", of=3.0)
    assert other["numbers"]["half"] == 1.5 and counted == [4, 4]
    kept = sorted(path.name for path in (run / "probes").iterdir())
    assert kept[1] == "half.json" and len(kept) == 2 and document(run, "half")["options"] == {"of": 3.0}
    aside = ask(run, "half")
    assert aside["numbers"]["half"] == 0.5 and counted == [4, 4], "the first answer was moved aside, with its figure"
    assert aside["file"] == kept[0] and (run / "figures" / aside["figures"][0]).is_file() and aside["figures"] != other["figures"]
    assert ask(run, "half", step=2)["step"] == 2 and counted == [4, 4, 2], "other weights"


def test_a_result_of_other_code_is_not_used(run: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    ask(run, "half")
    monkeypatch.setattr("dlrun.probing.code", lambda name: "another")
    ask(run, "half")
    assert counted == [4, 4]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"numbers": 3}', '{"numbers": {"half": "rm"}}', '{"figures": ["../../config.yaml"], "numbers": {}}']
)
def test_a_file_that_is_no_result_is_none(text: str, run: Path, counted: list[int]) -> None:
    (run / "probes").mkdir()
    (run / "probes" / "half.json").write_text(text)
    assert ask(run, "half")["numbers"]["half"] == 0.5 and counted == [4] and (run / "config.yaml").is_file()
    assert document(run, "half")["numbers"]["half"] == 0.5


def test_a_link_in_the_place_of_a_result_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (run / "probes").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MissingError, match="probes"):
        ask(run, "knn")


def test_measure_gives_numbers_of_runs_by_their_place(tmp_path: Path, counted: list[int]) -> None:
    paths = [runs.start(tmp_path / str(seed), *TINY, f"seed={seed}")[0] for seed in range(2)]
    found = measure({"probe": "interpolation", "runs": ["a", "b"], "points": 3}, paths)
    back = measure({"probe": "interpolation", "runs": ["b", "a"], "points": 3}, paths[::-1])
    assert found["loss_first"] == back["loss_second"] and found["loss_midpoint"] == pytest.approx(back["loss_midpoint"])
    assert document(paths[0], "interpolation")["step"] == [4, 4] and len(document(paths[0], "interpolation")["weights_sha256"]) == 2
    assert measure({"probe": "half", "runs": "a"}, paths[:1]) == {"half": 0.5, "rows": 3, "inf": math.inf}
    with pytest.raises(UsageError, match="measures two runs, found 1"):
        measure({"probe": "interpolation", "runs": ["a", "b"]}, paths[:1])
    with pytest.raises(MissingError, match="no run directory"):
        measure({"probe": "knn", "runs": ["a"]}, [tmp_path / "nowhere"])


# -- what a probe may do ------------------------------------------------------------------------------------------------------------------


def test_a_probe_that_changes_weights_or_gives_no_numbers_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meddling(run):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            next(run.model.parameters()).zero_()
        return {"a": 1}

    answers: list[Any] = [None, {"a": "x"}, ({"a": 1}, {"b": 2})]
    for name, part in {"meddling": meddling, "odd": lambda run: answers.pop(0), "lost": lambda model: {}}.items():
        monkeypatch.setitem(registry.PLUGINS["probe"], name, part)
    monkeypatch.setattr("dlrun.probing.code", lambda name: name)
    with pytest.raises(TypeError, match="meddling changed the weights of the run"):
        ask(run, "meddling")
    for fragment in ("returned a NoneType", "returned 'x' as a", "numbers, looks"):
        with pytest.raises(TypeError, match=fragment):
            ask(run, "odd")
    with pytest.raises(UsageError, match="left of `\\*` there may stand run"):
        ask(run, "lost")
    assert not (run / "probes").exists()


def test_randomness_is_the_runs_own(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        registry.PLUGINS["probe"], "drawn", lambda run, noise: {"a": torch.rand(1), "b": torch.rand(1, generator=noise.generator("b"))}
    )
    first = ask(run, "drawn")["numbers"]
    (run / "probes" / "drawn.json").unlink()
    runs.scramble()
    assert ask(run, "drawn")["numbers"] == first and first["a"] != first["b"]


def test_rows_looked_at_are_drawn_once_and_from_everywhere(run: Path) -> None:
    trained = load(run, "last")
    rows = trained.rows("train", 100)
    assert len(rows) == 100 == len(rows.unique()) and rows.max() > 900 and torch.equal(rows, trained.rows("train", 100))
    assert [len(batch) for batch in trained.batches("train", 100, size=64)] == [64, 36]
    assert torch.equal(next(trained.batches("test"))["x"], next(trained.data.evaluation("test"))["x"])
    with pytest.raises(ValueError, match="no split 'dev'"):
        trained.rows("dev", None)


# -- the command line ---------------------------------------------------------------------------------------------------------------------


def test_the_command_prints_what_it_keeps(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", str(run), "knn", "k=3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["numbers"] == document(run, "knn")["numbers"] and found["options"]["k"] == 3
    assert main(["probe", str(run), "knn", "k=3", "device=cpu"]) == 0
    out = capsys.readouterr().out
    assert "probe knn at step 4:" in out and "accuracy" in out and str(run / "probes" / "knn.json") in out
    assert document(run, "knn")["overrides"] == ["device=cpu"]
    assert main(["probe", str(run), "knn", "--step", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 2
    assert main(["probe", str(run), str(run), "interpolation", "points=3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["numbers"]["loss_barrier"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "code", "fragment"),
    [
        ([], 2, "takes run directories and a probe's name"),
        (["RUN"], 2, "the probe's name stands last"),
        (["knn"], 2, "dlrun probe RUN knn"),
        (["RUN", "knnn"], 2, "did you mean knn?"),
        (["RUN", "knn", "kk=1"], 2, "no option 'kk'"),
        (["RUN", "knn", "k=1.5"], 2, "expected an integer >= 1, found 1.5"),
        (["RUN", "knn", "k=1", "k=2"], 2, "k: given twice"),
        (["RUN", "knn", "k=1,2"], 2, "several values"),
        (["RUN", "interpolation"], 2, "measures two runs, found 1: dlrun probe RUN RUN interpolation"),
        (["RUN", "RUN", "knn"], 2, "measures one run, found 2"),
        (["RUN", "knn", "--step", "first"], 2, "--step first: expected"),
        (["RUN", "knn", "--step", "3"], 3, "no checkpoint of step 3"),
        (["nowhere", "knn"], 3, "no run directory"),
        (["RUN", "knn", "layer=nonsense"], 2, "no layer 'nonsense'"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], code: int, fragment: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", *(str(run) if word == "RUN" else word for word in words)]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and fragment in err
    assert not (run / "probes").exists()


def test_wrong_options_and_known_answers_cost_no_torch(run: Path) -> None:
    ask(run, "knn")
    code = "import sys; from dlrun.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words, expected in ((["k=0"], "2 False"), ([], "0 False")):
        command = [sys.executable, "-c", code, "probe", str(run), "knn", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout.splitlines()[-1] == expected


def test_a_run_of_a_plugin_needs_it_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("mine.py").write_text(
        "import torch\nfrom dlrun import register\n\n\n@register.model\ndef flat(in_shape, out_shape):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n\n\n"
        "@register.probe\ndef size(runs, *, power: int = 1):\n    '''Weights of all runs.'''\n"
        "    return {'size': sum(p.numel() for run in runs for p in run.model.parameters()) ** power}\n"
    )
    words = [*runs.QUIET, "train.steps=1", "model=flat", "probes=[size]", "run_dir=here"]
    assert main(["train", "--plugin", "mine.py", *words]) == 0
    assert document(Path("here"), "size")["numbers"] == {"size": 650}
    capsys.readouterr()
    assert main(["probe", "here", "knn"]) == 2 and "add --plugin mine.py" in capsys.readouterr().err
    assert main(["probe", "here", "here", "size", "power=2", "--plugin", "mine.py", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["numbers"] == {"size": 1300**2}
    assert main(["ls", "probe", "--plugin", "mine.py"]) == 0 and "Weights of all runs. (plugin)" in capsys.readouterr().out
