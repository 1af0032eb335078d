"""Gates of torch's own LSTM and GRU, which no hook shows: their values are worked out again from inputs and states of a forward.

A gate that is shut for every unit, step and row lets nothing in, or nothing out, and its weights get next to no gradient. A forget gate
that is open throughout is no fault (Jozefowicz et al. 2015 set its bias high), nor is one that a few units keep shut.
Source: Hochreiter, Schmidhuber 1997; Cho et al. 2014, equations 5 to 8 (torch's GRU keeps the state where its gate z is open).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlrun.checks._frame import Subject
from dlrun.run import Run

ROWS, BOUND, MOST = 32, 1e-3, 0.98
LSTM = ("the input gate of {} is shut: nothing comes in", "the forget gate of {} is shut: it remembers nothing", "",
        "the output gate of {} is shut: nothing comes out")  # fmt: skip
GRU_SHUT, GRU_OPEN = "{} keeps nothing of its state from step to step", "the state of {} never changes: its update gate keeps all of it"


def shut(subject: Subject, run: Run) -> str:
    """What is wrong with a gate, in words; "" where none is shut throughout."""
    heard: list[tuple[str, nn.RNNBase, Any, Any]] = []

    def hear(name: str) -> Any:
        return lambda module, inputs, out: heard.append((name, module, inputs, out))

    parts = {f"{net}.{path}".rstrip("."): part for net in run.nets for path, part in run.modules[net].named_modules()}
    gated = {name: part for name, part in parts.items() if isinstance(part, (nn.LSTM, nn.GRU))}
    handles = [part.register_forward_hook(hear(name)) for name, part in gated.items()]
    if not handles:
        return ""
    try:
        subject.outputs(run, subject.prepared(run, subject.few), training=False)
    finally:
        for handle in handles:
            handle.remove()
    said = (_judge(name, module, inputs, out) for name, module, inputs, out in heard)
    return next((text for text in said if text), "")


@torch.no_grad()
def _judge(name: str, module: nn.RNNBase, inputs: Any, out: Any) -> str:
    """The verdict on the first layer, forwards in time; the states of further layers stay inside torch."""
    x, states = inputs[0], out[0]
    if not isinstance(x, Tensor) or x.dim() != 3 or module.num_layers > 1 or module.proj_size:
        return ""
    if not module.batch_first:
        x, states = x.transpose(0, 1), states.transpose(0, 1)
    x, states = x[:ROWS], states[:ROWS, :, : module.hidden_size]
    before = torch.cat((torch.zeros_like(states[:, :1]), states[:, :-1]), 1)
    steps = slice(1, None) if x.shape[1] > 1 else slice(None)
    inner = x @ module.weight_ih_l0.T + (module.bias_ih_l0 if module.bias else 0.0)  # type: ignore[operator]
    outer = before @ module.weight_hh_l0.T + (module.bias_hh_l0 if module.bias else 0.0)  # type: ignore[operator]
    gates = torch.sigmoid((inner + outer)[:, steps]).chunk(4 if isinstance(module, nn.LSTM) else 3, -1)
    if isinstance(module, nn.LSTM):
        closed = [text for text, gate in zip(LSTM, gates, strict=True) if text and float((gate < BOUND).float().mean()) > MOST]
        return closed[0].format(name) if closed else ""
    keeps = gates[1]
    if float((keeps < BOUND).float().mean()) > MOST:
        return GRU_SHUT.format(name)
    return GRU_OPEN.format(name) if float((keeps > 1 - BOUND).float().mean()) > MOST else ""
