"""What all checks share: JSON, exit codes, parts that cannot be copied."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import torch
from checks_found import CLOUDS, big, built, first_loud, found, parts, plug  # noqa: F401 (parts is a fixture)
from checks_healthy import Net

from dlrun import registry
from dlrun.checks._frame import STAGES, plain
from dlrun.checks._frame import Finding as Raw
from dlrun.cli import main


def test_what_cannot_be_copied_is_not_applicable() -> None:
    class Locked(Net):
        def __init__(self) -> None:
            super().__init__(8, 4)
            self.lock = threading.Lock()

    plug("model", "locked", Locked)
    findings = found(*CLOUDS, "model=locked", level="check")
    assert {f.level for f in findings.values()} == {"ok", "not_applicable"}
    assert findings["optimizer_owns"].level == findings["finite_data"].level == "ok"
    assert "the networks cannot be copied (TypeError: cannot pickle" in findings["step_lowers_loss"].message


def test_json_has_the_contract_s_keys_and_plain_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "dataset=moons", "device=cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True and document["seconds"] > 0
    stages = [STAGES.index(registry.get("check", finding["check"]).stage) for finding in document["findings"]]
    assert stages == sorted(stages) and len({finding["check"] for finding in document["findings"]}) == len(stages) >= 7
    for finding in document["findings"]:
        assert list(finding)[:7] == ["check", "level", "message", "cause", "next", "numbers", "threshold"]


def test_an_error_exits_1_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    plug("model", "big", big)
    words = ["dataset=moons", "model=big", "device=cpu"]
    assert main(["check", *words, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    loud = [f for f in document["findings"] if f["level"] in ("warning", "error")]
    assert document["ok"] is False and loud[0]["check"] == "init_loss" and loud[0]["cause"] and loud[0]["next"] and loud[0]["threshold"]
    assert main(["check", *words]) == 1
    assert "check init_loss: ERROR: first loss" in capsys.readouterr().out


def test_numbers_become_plain() -> None:
    numbers = {"a": torch.tensor(2), "b": np.float32(0.5), "c": [torch.ones(2)], 3: torch.float32, "d": {"e": (None, True)}}
    assert Raw("ok", "x", numbers=numbers).as_json()["numbers"] == plain(numbers)
    assert json.loads(json.dumps(plain(numbers))) == {"a": 2, "b": 0.5, "c": [[1.0, 1.0]], "3": "torch.float32", "d": {"e": [None, True]}}
