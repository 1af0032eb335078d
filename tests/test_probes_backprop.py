"""The backward pass by hand: against a gradient worked out on paper, against autograd, and what it cannot do."""

from __future__ import annotations

import pytest
import torch
from probed import loaded, probe
from torch import nn

from dlrun.probes.backprop_by_hand import by_hand

MLP = ("dataset=digits", "model=mlp", "model.width=12")


def test_one_linear_layer_of_zeros_has_the_gradient_of_paper() -> None:
    """Two rows, two classes, all logits 0: the loss is ln 2 and each row gives (1/2 - one-hot) / 2 times its x."""
    layer = nn.Linear(2, 2).double()
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    loss, (weight, bias) = by_hand([layer], x, torch.tensor([0, 0]))
    assert float(loss) == pytest.approx(0.6931471805599453)
    assert weight.tolist() == [[-1.0, -0.25], [1.0, 0.25]] and bias.tolist() == [-0.5, 0.5]


def test_a_silent_relu_lets_nothing_back() -> None:
    first, last = nn.Linear(1, 1).double(), nn.Linear(1, 2).double()
    nn.init.constant_(first.weight, -1.0), nn.init.zeros_(first.bias)
    _, found = by_hand([first, nn.ReLU(), last], torch.ones(1, 1, dtype=torch.float64), torch.tensor([1]))
    assert found[0].tolist() == [[0.0]] and found[1].tolist() == [0.0] and float(found[3].abs().sum()) > 0


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_gradients_are_those_of_autograd_to_float64(depth: int) -> None:
    found = probe("backprop_by_hand", loaded(*MLP, f"model.depth={depth}"))
    assert found["relative_error"] < 1e-12 and found["loss_error"] < 1e-12
    assert 1e-9 < probe("backprop_by_hand", loaded(*MLP, f"model.depth={depth}"), precision="float32")["relative_error"] < 1e-5
    assert found["layers"] == depth + 1 and found["rows"] == 64 and found["loss"] > 0


def test_a_wrong_backward_pass_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dlrun.probes.backprop_by_hand.by_hand",
        lambda layers, x, y: ((found := by_hand(layers, x, y))[0], [2 * found[1][0], *found[1][1:]]),
    )
    assert probe("backprop_by_hand", loaded(*MLP))["relative_error"] == pytest.approx(1)


def test_other_networks_and_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="it has a LayerNorm"):
        probe("backprop_by_hand", loaded(*MLP, "model.norm=layer"))
    with pytest.raises(ValueError, match="no chain of linear layers"):
        probe("backprop_by_hand", loaded("dataset=digits", "model=cnn", "model.channels=[4]"))
