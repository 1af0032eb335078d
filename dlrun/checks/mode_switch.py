"""train() and eval() reach every layer: evaluation repeats itself, dropout acts in training only."""

from __future__ import annotations

from torch import Tensor, nn

from dlrun.batch import leaves
from dlrun.checks._frame import Finding, Subject, check, skipped

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
SAMPLES = ("vae", "diffusion")
"""Kinds of task whose outputs are drawn, in evaluation too."""


@check(stage="loss", moment="fast", recipe="Hacker's Guide: model.eval(), and look at model.training")
def mode_switch(subject: Subject) -> Finding:
    """Two forwards in eval mode under different noise must agree; with active dropout two in train mode must not."""
    task = subject.loss_task
    if task is None:
        return skipped("a task of several objectives has no single output to repeat")
    run = subject.copy()
    stuck = _stuck(run.modules)
    if stuck:
        text = f"after {stuck[1]}() layer {stuck[0]} is in the other mode"
        return Finding(
            "error", text, "a train() method of the network's own does not reach it", "call super().train(mode)", {"layer": stuck[0]}
        )
    drawn = subject.expects.get("stochastic_eval") or getattr(task, "kind", None) in SAMPLES or run.data.spec.kind in SAMPLES
    gap = _gap(subject, run, training=False)
    if gap > 0 and not drawn:
        text = f"two evaluations of the same batch differ by {gap:.3g}"
        return Finding(
            "error", text, "dropout or sampling is active in eval mode", "use nn.Dropout or test self.training", {"difference": gap}, "0"
        )
    active = [name for module in run.modules.values() for name, part in module.named_modules() if isinstance(part, DROPOUTS) and part.p > 0]
    if active and _gap(subject, run, training=True) == 0:
        text = f"{len(active)} dropout layers, and two training forwards are equal"
        return Finding("warning", text, "the dropout layers are not called", "call them in forward", {"layers": active[:10]}, "> 0")
    return Finding(
        "ok", "train() and eval() reach every layer, evaluation repeats itself", numbers={"difference": gap}, threshold="0 in eval mode"
    )


def _gap(subject: Subject, run: object, *, training: bool) -> float:
    one, two = (list(leaves(subject.outputs(run, subject.batch, training=training, key=key))) for key in ("one", "two"))  # type: ignore[arg-type]
    return max(
        (float((a.float() - b.float()).abs().max()) for a, b in zip(one, two, strict=True) if isinstance(a, Tensor) and a.numel()),
        default=0.0,
    )


def _stuck(modules: dict[str, nn.Module]) -> tuple[str, str] | None:
    for mode in (False, True):
        for name, module in modules.items():
            module.train(mode)
            for path, part in module.named_modules():
                if part.training != mode and mode is False:
                    return f"{name}.{path}".rstrip("."), "eval"
    return None
