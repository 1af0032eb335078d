"""Distillation: its loss and slopes against the source's, its limits, and a teacher that answers and does not learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import parts
import pytest
import runs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.types import DataSpec, Networks

SPEC = DataSpec(in_shape=(3,), out_shape=(4,), kind="classification", classes=4)


def made(**changed: Any) -> Any:
    return parts.task("distillation", SPEC, **changed)


def logits() -> tuple[Tensor, Tensor, Batch]:
    source = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 4, generator=source, dtype=torch.float64)
    return student.requires_grad_(), teacher, Batch({"x": torch.randn(6, 3), "y": torch.tensor([0, 1, 2, 3, 0, 1])})


def test_the_weighted_sum_and_its_ends() -> None:
    student, teacher, batch = logits()
    hard = F.cross_entropy(student, batch["y"])
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    soft = 9 * (p * (p.log() - q.log())).sum(1).mean()
    for share in (0.0, 0.3, 1.0):
        loss, terms = made(soft=share, temperature=3.0).loss((student, teacher), batch)
        assert loss.item() == pytest.approx(((1 - share) * hard + share * soft).item(), rel=1e-12)
        assert terms["hard"].item() == pytest.approx(hard.item()) and terms["soft"].item() == pytest.approx(soft.item())
    assert abs(made(soft=1.0).loss((teacher, teacher), batch)[0].item()) < 1e-12


def test_slopes_are_those_of_section_2_1_and_of_matched_logits_at_high_temperature() -> None:
    """Eq. 2, times T^2: dL/dz = T (softmax(z / T) - softmax(v / T)) a row; eq. 4: T -> inf gives (z - v) / C for logits of mean 0."""
    student, teacher, batch = logits()
    (slope,) = torch.autograd.grad(made(soft=1.0, temperature=3.0).loss((student, teacher), batch)[0], student)
    assert torch.allclose(slope, 3 * ((student / 3).softmax(1) - (teacher / 3).softmax(1)) / 6, atol=1e-12)
    (slope,) = torch.autograd.grad(made(soft=1.0, temperature=1e5).loss((student, teacher), batch)[0], student)
    z, v = (t - t.mean(1, keepdim=True) for t in (student, teacher))
    assert torch.allclose(slope, (z - v) / 4 / 6, atol=1e-5)


def test_the_teacher_answers_as_in_evaluation_and_gets_no_gradient() -> None:
    task, (_, _, batch) = made(soft=1.0), logits()
    teacher = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4)).requires_grad_(False)
    modules = {"student": nn.Linear(3, 4), "teacher": teacher}
    nets, known = Networks(modules), teacher.eval()(batch["x"])
    task.start(nets)
    for module in modules.values():
        module.train()
    (objective,) = task.objectives(nets, batch)
    assert torch.equal(objective.outputs[1], known) and objective.update == ("student",)
    objective.loss.backward()
    assert teacher[1].running_mean.abs().max() == 0 and all(p.grad is None for p in teacher.parameters())
    assert modules["student"].weight.grad.abs().max() > 0


def test_a_teacher_that_would_learn_and_data_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the teacher is not frozen.*freeze: \['teacher.\*'\]"):
        made().start(Networks({"student": nn.Linear(3, 4), "teacher": nn.Linear(3, 4)}))
    with pytest.raises(UsageError, match="needs classes"):
        made().networks(DataSpec(in_shape=(3,), out_shape=(), kind="regression"))


def test_a_student_that_is_as_large_and_taught_long_enough_answers_as_its_teacher(tmp_path: Path) -> None:
    teacher, _, _ = runs.start(tmp_path / "teacher", "train.steps=100", "model.width=16", "model.depth=1")
    words = [
        "task=distillation",
        "task.soft=1.0",
        *(f"model.{who}.{what}" for who in ("student", "teacher") for what in ("width=16", "depth=1")),
    ]
    start = f"start={{from: {teacher}, step: last, networks: {{teacher: model}}, freeze: ['teacher.*']}}"
    run, _, code = runs.start(tmp_path / "student", *words, start, "train.steps=600", "train.log_every=100", "optimizer.lr=0.01")
    terms = [row["train/soft"] for row in runs.rows(run) if "train/soft" in row]
    assert code == 0 and terms[-1] < terms[0] / 50
