"""What all checks share: order, folding, JSON, exit codes, time, what cannot be tried or copied, and what a subject gives."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from checks_found import CLOUDS, big, built, first_loud, found, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net
from torch import Tensor, nn

from dlrun import Splits, registry
from dlrun.checks import known, lines_before_training, lines_on_request, run_checks, verdict
from dlrun.checks._finding import STAGES, gap, largest, plain
from dlrun.checks._finding import Finding as Raw
from dlrun.checks._folding import MOST, fold, in_order
from dlrun.checks._frame import Subject, check
from dlrun.checks._moments import moment
from dlrun.cli import main


def fake(stage: str, **facts: Any) -> Any:
    return check(stage=stage, **facts)(lambda subject: None)


def folded(*findings: tuple[str, str], **checks: Any) -> dict[str, tuple[str, str]]:
    """(level, follows) by check after folding; `findings` are (check, level) in causal order."""
    made = [Raw(level, "x", check=name) for name, level in findings]
    fold(made, checks)
    return {finding.check: (finding.level, finding.follows) for finding in made}


def test_order_is_by_stage_then_what_blocks_then_roots() -> None:
    checks = {
        "z": fake("data"), "a": fake("update", follows=("m",)), "m": fake("update"), "k": fake("update", follows=("a",)),
        "q": fake("update", first=True), "b": fake("loss"), "c": fake("learning"),
    }  # fmt: skip
    assert in_order(checks) == ["z", "b", "q", "m", "a", "k", "c"]


def test_a_circle_of_roots_has_an_order() -> None:
    assert sorted(in_order({"a": fake("loss", follows=("b",)), "b": fake("loss", follows=("a",))})) == ["a", "b"]


def test_a_named_root_takes_its_consequences() -> None:
    checks = {"owns": fake("update"), "size": fake("update", follows=("owns",)), "fit": fake("learning", follows=("size",))}
    seen = folded(("owns", "error"), ("size", "error"), ("fit", "warning"), **checks)
    assert seen == {"owns": ("error", ""), "size": ("info", "owns"), "fit": ("info", "owns")}
    assert folded(("owns", "info"), ("size", "error"), **checks)["size"] == ("error", "")


def test_an_independent_second_fault_is_not_hidden() -> None:
    checks = {"leak": fake("data"), "form": fake("outputs"), "owns": fake("update"), "fit": fake("learning")}
    seen = folded(("leak", "error"), ("form", "error"), ("owns", "error"), ("fit", "error"), **checks)
    assert [level for level, _ in seen.values()] == ["error", "error", "error", "info"] and seen["fit"][1] == "form"
    assert folded(("leak", "error"), ("fit", "error"), **checks)["fit"] == ("error", "")  # a leak keeps nobody from learning
    assert folded(("form", "warning"), ("fit", "error"), **checks)["fit"] == ("error", "")  # a warning is no proof


def test_a_symptom_follows_any_error() -> None:
    made = [Raw("error", "x", check="a"), Raw("error", "nan", check="b", symptom=True)]
    fold(made, {"a": fake("data"), "b": fake("loss")})
    assert [(finding.level, finding.follows) for finding in made] == [("error", ""), ("info", "a")]


def test_more_than_a_handful_of_warnings_wait() -> None:
    names = [f"c{number}" for number in range(MOST + 3)]
    made = [Raw("warning", "x", check=name) for name in names[:-1]] + [Raw("error", "x", check=names[-1])]
    fold(made, {name: fake("loss") for name in names})
    assert [finding.level for finding in made] == ["warning"] * MOST + ["info"] * 2 + ["error"]


def test_what_cannot_be_copied_is_not_applicable() -> None:
    class Locked(Net):
        def __init__(self) -> None:
            super().__init__(8, 4)
            self.lock = threading.Lock()

    plug("model", "locked", Locked)
    findings = found(*CLOUDS, "model=locked", level="check")
    assert {f.level for f in findings.values()} <= {"ok", "info", "not_applicable"}
    assert findings["optimizer_owns"].level == findings["finite_data"].level == "ok"
    assert "the networks cannot be copied (TypeError: cannot pickle" in findings["step_lowers_loss"].message


def test_json_has_the_contract_s_keys_and_plain_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "dataset=moons", "device=cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True and document["seconds"] > 0 and document["kind"] == "classification"
    stages = [STAGES.index(registry.get("check", finding["check"]).stage) for finding in document["findings"]]
    assert stages == sorted(stages) and len({finding["check"] for finding in document["findings"]}) == len(stages) >= 7
    for finding in document["findings"]:
        assert list(finding)[:7] == ["check", "level", "message", "cause", "next", "numbers", "threshold"]
        assert finding["seconds"] >= 0 and (finding["level"] not in ("warning", "error") or finding["threshold"])


def test_an_error_exits_1_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    plug("model", "big", big)
    words = ["dataset=moons", "model=big", "device=cpu"]
    assert main(["check", *words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    loud = [f for f in document["findings"] if f["level"] in ("warning", "error")]
    assert document["ok"] is False and loud[0]["check"] == "init_loss" and loud[0]["cause"] and loud[0]["next"] and loud[0]["threshold"]
    assert main(["check", *words]) == 1
    assert "check init_loss: ERROR: first loss" in capsys.readouterr().out


def test_warnings_alone_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    plug("check", "grumbles", check(stage="loss")(lambda subject: Raw("warning", "hm", "a cause", "a step")))
    assert main(["check", "dataset=moons", "device=cpu"]) == 0
    printed = capsys.readouterr().out
    assert "check grumbles: warning: hm" in printed and "no error, 1 warning, begin with grumbles" in printed


def test_numbers_become_plain() -> None:
    numbers = {"a": torch.tensor(2), "b": np.float32(0.5), "c": [torch.ones(2)], 3: torch.float32, "d": {"e": (None, True)}}
    assert Raw("ok", "x", numbers=numbers).as_json()["numbers"] == plain(numbers)
    assert json.loads(json.dumps(plain(numbers))) == {"a": 2, "b": 0.5, "c": [[1.0, 1.0]], "3": "torch.float32", "d": {"e": [None, True]}}


def raising(subject: Subject) -> Raw:
    raise RuntimeError("one row is too few")


def test_what_only_a_check_s_own_trial_breaks_is_no_fault() -> None:
    plug("check", "odd", check(stage="outputs", moment="fast")(raising))
    findings = found(*CLOUDS)
    assert findings["odd"].level == "not_applicable" and "one row is too few" in findings["odd"].message
    assert findings["init_loss"].level == "ok"


def test_networks_that_do_not_run_are_an_error_with_their_place() -> None:
    class Breaks(Net):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no such layer")

    plug("model", "breaks", lambda: Breaks(8, 4))
    findings = found(*CLOUDS, "model=breaks")
    first = findings[first_loud(findings)]
    assert first.level == "error" and "no such layer" in first.message and "(test_checks_frame.py:" in first.message
    assert [f.check for f in findings.values() if f.level in ("warning", "error")] == [first.check]


def test_checks_keep_to_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("dlrun.checks", fromlist=["PATIENCE"]).PATIENCE, "fast", (0.3, -1.0))
    findings = found(*CLOUDS)
    assert {f.level for f in findings.values()} == {"not_applicable"} and "time for all checks" in findings["init_loss"].message


def test_lines_fit_the_terminal_and_say_the_numbers() -> None:
    long = "a sentence that goes on and on " * 6
    loud = Raw("error", long, long, long, {"loss": 2.5, "layers": ["a", "b"], "none": None, "deep": {"a": 1}}, long, check="init_loss")
    quiet = [Raw("ok", long, check="finite_data"), Raw("not_applicable", "why", check="a"), Raw("not_applicable", "why", check="b")]
    quiet[0].follows = "init_loss"
    lines = [text for text, _ in lines_on_request([loud, *quiet], 80)]
    assert max(map(len, lines)) < 80 and "not applicable: a, b: why" in lines
    joined = " ".join(" ".join(lines).split())
    assert "numbers: loss 2.500; layers a, b" in joined and "seen again by: finite_data" in joined
    assert max(len(text) for text, _ in lines_on_request([loud], None)) > 80
    before = [text for text, _ in lines_before_training([loud, *quiet], None)]
    assert before[0].startswith("check init_loss: ERROR:") and before[-1].startswith("checks: 1 with an error, 1 ok, 2 do not apply in")
    assert verdict([loud], 1.0)[0] == "not sound, begin with init_loss: 1 checks in 1.0 s"


# -- what a subject gives


def test_rows_are_a_fair_sample_and_the_smaller_one_begins_the_larger() -> None:
    subject = Subject(built(*CLOUDS))
    few, many = subject.rows("train", 64), subject.rows("train", 10_000)
    assert len(few) == 64 and not few.whole and many.whole and len(many) == 256
    assert torch.equal(many.first(64).x, few.x) and len(subject.rows("train", 64)) == 64
    assert sorted(many.indices.tolist()) == list(range(256)) and set(few.y.tolist()) == {0, 1, 2, 3}
    assert torch.equal(many.x, subject.run.data.head("train", 256)["x"][many.indices])


class Slow(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 5000

    def __getitem__(self, row: int) -> Any:
        time.sleep(0.002)
        return torch.full((3,), float(row)), row % 2


def test_rows_of_a_slow_dataset_are_bounded_in_time() -> None:
    plug("dataset", "slow", lambda: Splits(Slow(), Slow()))
    subject = Subject(built("dataset=slow", "task=supervised", "loss=cross_entropy"), patience=0.4)
    begun = time.thread_time(), time.perf_counter()
    rows = subject.rows("train", 5000)
    assert 16 <= len(rows) < 1000 and not rows.whole and time.perf_counter() - begun[1] < 9
    assert rows.x[:, 0].tolist() == rows.indices.tolist()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (CLOUDS, "classification"),
        (("dataset=only_x", "task=supervised", "model=autoencoder", "loss=evidence"), "vae"),
        (("dataset=near_targets", "task=supervised"), "regression"),
        (("dataset=ring", "task=gan"), "gan"),
        (("dataset=two_views", "task=supervised", "task.kind=contrastive", "model=views", "loss=contrast"), "contrastive"),
    ],
)
def test_the_kind_is_inferred_where_it_is_not_said(words: tuple[str, ...], kind: str) -> None:
    assert Subject(built(*words)).kind == kind


def test_a_fresh_build_has_other_weights_the_same_parts_and_trains() -> None:
    run = built(*CLOUDS, "loss=uncertain")
    subject = Subject(run)
    same, other = subject.fresh(), subject.fresh(run.seed + 1)
    named = {key: subject.parameters(each) for key, each in {"run": run, "same": same, "other": other}.items()}
    assert list(named["run"]) == list(named["other"]) and "loss.log_temperature" in named["run"]
    assert all(torch.equal(p, named["same"][key]) and p is not named["same"][key] for key, p in named["run"].items())
    assert not all(torch.equal(p, named["other"][key]) for key, p in named["run"].items())
    before = [p.clone() for p in named["run"].values()]
    assert list(subject.fit(other, subject.raw, 2)) == [1, 2]
    assert all(map(torch.equal, before, named["run"].values()))


def test_a_shared_parameter_has_one_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
            self.two.weight = self.one.weight
            self.two.bias.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x))[:, :4]  # type: ignore[no-any-return]

    plug("model", "tied_lines", Tied)
    run = built(*CLOUDS, "model=tied_lines")
    assert list(Subject(run).parameters(run)) == ["model.one.weight", "model.one.bias"]


def test_a_gan_can_be_listened_to() -> None:
    subject = Subject(built("dataset=ring", "task=gan"))
    run = subject.copy()
    said = subject.heard(run, subject.prepared(run, subject.raw), training=True)
    assert set(said) == {"generator", "critic"} and len(said["critic"]) == 3 and said["generator"][0].shape[1] == 2
    again = subject.heard(run, subject.prepared(run, subject.raw), training=True)
    assert gap(said["critic"], again["critic"]) == 0  # nothing was updated


def test_gaps_are_of_tensors_of_one_shape() -> None:
    one = (torch.tensor([1.0, float("nan")]), {"a": torch.tensor([2])})
    assert gap(one, one) == 0 and largest((torch.tensor([-3.0]), torch.tensor([9]))) == 3
    assert gap(torch.ones(2), torch.ones(3)) == float("inf") and gap(torch.ones(1), torch.tensor([float("nan")])) == float("inf")
    assert gap(torch.ones(2), torch.tensor([1.0, 1.5])) == 0.5


def test_the_bound_of_equal_outputs_knows_noise_that_nothing_seeds() -> None:
    class Noisy(Net):
        generator = torch.Generator().manual_seed(0)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.rand(len(x), 4, generator=self.generator)

        def __deepcopy__(self, memo: Any) -> Any:
            made = Noisy(8, 4)
            made.load_state_dict(self.state_dict())
            return made

    plug("model", "noisy", lambda: Noisy(8, 4))
    quiet, noisy = Subject(built(*CLOUDS)), Subject(built(*CLOUDS, "model=noisy"))
    bounds = [subject.bound(run := subject.copy(), subject.prepared(run, subject.raw)) for subject in (quiet, noisy)]
    assert bounds[0] < 1e-4 and bounds[1] > 1


def test_every_check_has_its_facts() -> None:
    for name, part in known().items():
        assert part.stage in STAGES and part.moment in ("fast", "check", "deep", "training") and part.recipe, name
        assert all(root in known() for root in getattr(part, "follows", ())), name


def test_plugins_bring_checks() -> None:
    plug("check", "mine", lambda subject: Raw("info", f"{len(subject.raw)} rows"))
    assert "mine" not in found(*CLOUDS) and found(*CLOUDS, level="check")["mine"].message == "64 rows"
    assert run_checks(built(*CLOUDS), "fast")


@pytest.mark.parametrize("name", registry.builtin_names("check"))
def test_the_moment_that_is_read_from_the_source_is_that_of_the_check(name: str) -> None:
    assert moment(name) == getattr(registry.get("check", name), "moment", "check")


def test_a_training_imports_only_the_checks_that_look_at_it() -> None:
    code = "import sys; from dlrun.checks import known; known(('fast',)); known(('training',)); print(*sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "dlrun.checks.optimizer_drill" not in seen and "dlrun.checks.overfit_1_batch_few" not in seen
    assert "dlrun.checks.init_loss" in seen and "dlrun.checks.curve_watch" in seen
