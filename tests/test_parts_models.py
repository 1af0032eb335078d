"""Networks: shapes, counts and first losses that are known in advance, activations that neither die nor explode, causality."""

from __future__ import annotations

from itertools import pairwise
from math import log, prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from parts import model, rows
from torch import Tensor, nn

from dlrun import registry
from dlrun.nn.init import GAINS, kaiming_

IMAGES, TOKENS = (1, 28, 28), (12,)
FITTING: list[tuple[str, tuple[int, ...], tuple[int, ...], int | None]] = [
    *((name, shape, (10,), None) for name in ("linear", "mlp") for shape in [(1, 8, 8), (7,), ()]),
    *((name, shape, (10,), None) for name in ("cnn", "resnet") for shape in [(1, 8, 8), (1, 28, 28), (3, 32, 32)]),
    *((name, (5,), (), None) for name in ("linear", "mlp")),
    ("mlp", (2,), (3, 4, 4), None),
    ("cnn", (3, 9, 8), (), None),
    *(("cnn", shape, (10,), None) for shape in [(40,), (2, 9)]),
    ("transformer", (12,), (12, 17), 17),
    ("transformer", (12,), (5,), 17),
    ("transformer", (12,), (), 17),
    *(("vit", shape, (10,), None) for shape in [(1, 8, 8), (1, 28, 28), (3, 32, 32)]),
    ("vit", (3, 12, 8), (), None),
    *((name, shape, (10,), None) for name in ("rnn", "lstm", "gru") for shape in [(1, 8, 8), (3, 9, 8), (12,), (6, 3)]),
    *((name, (12,), shape, 17) for name in ("rnn", "lstm", "gru") for shape in [(12, 17), (5,), ()]),
    *((name, (6, 3), shape, None) for name in ("rnn", "lstm", "gru") for shape in [(), (6, 2), (4, 2)]),
    *(("siren", shape, (10,), None) for shape in [(1, 8, 8), (7,), ()]),
    *(("siren", (2,), shape, None) for shape in [(), (3,)]),
    *(("deconv", (8,), shape, None) for shape in [(1, 8, 8), (1, 28, 28), (3, 9, 14)]),
    *(("torchvision", shape, (10,), None) for shape in [(1, 8, 8), (1, 28, 28), (3, 32, 32)]),
    ("torchvision", (3, 32, 32), (), None),
    *(("orthogonal_mlp", (1, 8, 8), shape, None) for shape in [(10,), ()]),
    *(("embedding_sum", (12,), shape, 17) for shape in [(10,), (), (3, 4)]),
]


def test_every_model_is_tried() -> None:
    """That of graphs, whose rows are no single tensor, in `test_parts_graphs.py`; that of no gradients in `test_parts_least_squares.py`."""
    elsewhere = {"gnn", "random_features"}
    assert {name for name, *_ in FITTING} | elsewhere == set(registry.builtin_names("model")) | elsewhere


@pytest.mark.parametrize(("name", "in_shape", "out_shape", "vocab"), FITTING)
def test_shapes_fit_and_every_parameter_gets_a_gradient(name: str, in_shape: Any, out_shape: Any, vocab: Any) -> None:
    net = model(name, in_shape, out_shape, vocab)
    out = net(rows(in_shape, vocab))
    assert out.shape == (32, *out_shape)
    (out * torch.randn(out.shape)).sum().backward()
    dead = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


@pytest.mark.parametrize(("name", "in_shape", "out_shape", "vocab"), FITTING)
def test_bfloat16_autocast_is_close(name: str, in_shape: Any, out_shape: Any, vocab: Any) -> None:
    net, x = model(name, in_shape, out_shape, vocab).eval(), rows(in_shape, vocab)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x)
    assert (out.float() - net(x)).abs().max() < 0.05


@pytest.mark.parametrize(("name", "in_shape", "vocab"), [(n, s, v) for n, s, o, v in FITTING if o and n != "deconv"])
def test_a_classifier_starts_at_ln_c(name: str, in_shape: Any, vocab: Any) -> None:
    """Within 0.05 nats and never below by more than chance: the readout starts small."""
    net, y = model(name, in_shape, (10,), vocab), torch.arange(256) % 10
    assert F.cross_entropy(net(rows(in_shape, vocab, n=256)), y).item() == pytest.approx(log(10), abs=0.05)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_known_parameter_counts() -> None:
    assert parameters(model("linear", IMAGES, (10,))) == 7850
    assert parameters(model("linear", IMAGES, (10,), bias=False)) == 7840
    assert parameters(model("mlp", IMAGES, (10,), width=256, depth=1)) == 784 * 256 + 256 + 2570
    assert parameters(model("mlp", IMAGES, (10,), depth=0)) == 7850
    # He et al. 2016, table 6, in millions: 0.27, 0.46, 0.66, 0.85, 1.7.
    counts = {depth: parameters(model("resnet", (3, 32, 32), (10,), depth=depth)) for depth in (20, 32, 44, 56, 110)}
    assert counts[20] == 269_722
    assert [round(count / 1e6, 2) for count in counts.values()] == [0.27, 0.46, 0.66, 0.85, 1.73]
    D, V, T, L = 128, 65, 64, 2
    block = 4 * D * D + 4 * D + 8 * D * D + 5 * D + 4 * D
    count = parameters(model("transformer", (T,), (T, V), V, width=D, depth=L))
    assert count == V * D + T * D + L * block + 2 * D + (D + 1) * V
    assert parameters(model("transformer", (T,), (T, V), V, width=D, depth=L, tied=True)) == count - V * D


def recorded(net: nn.Module, kinds: tuple[type[nn.Module], ...], x: Tensor) -> list[float]:
    """Root mean square of the outputs of all modules of `kinds`, in order of use."""
    sizes: list[float] = []
    for module in net.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _m, _i, out: sizes.append(float(out.detach().square().mean().sqrt())))
    net(x)
    return sizes


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_activations_keep_their_size_through_depth(activation: str) -> None:
    net = model("mlp", (256,), (10,), depth=12, activation=activation)
    sizes = recorded(net, (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh), rows((256,), n=256))
    assert len(sizes) == 12
    assert 0.3 < min(sizes) and max(sizes) < 3
    flat = model("mlp", (256,), (10,), depth=12, activation=activation)
    for module in flat.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()  # torch's own initialisation lets it fade: what the test is for
    assert min(recorded(flat, (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh), rows((256,), n=256))) < 0.3


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_convolutions_keep_their_size(norm: str) -> None:
    net = model("cnn", (3, 32, 32), (10,), norm=norm, blocks=2)
    sizes = recorded(net, (nn.ReLU,), rows((3, 32, 32)))
    assert len(sizes) == 6 and 0.3 < min(sizes) and max(sizes) < 3


def test_residual_streams_keep_their_size() -> None:
    blocks = recorded(model("resnet", (3, 32, 32), (10,), depth=20), (nn.Sequential,), rows((3, 32, 32)))
    assert 0.3 < min(blocks) and max(blocks) < 3
    for tied in (False, True):
        net = model("transformer", TOKENS, (12, 17), 17, depth=6, tied=tied)
        stream = recorded(net, (type(net.blocks[0]), nn.LayerNorm), rows(TOKENS, 17))  # type: ignore[index, union-attr]
        assert 0.3 < min(stream) and max(stream) < 3


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_gains_keep_a_second_moment_of_one(activation: str) -> None:
    z = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2)
    value = getattr(F, activation)(GAINS[activation] * z).square()
    assert float((value * weight).sum() / weight.sum()) == pytest.approx(1.0, abs=2e-4)


def test_kaiming_is_he_et_al_equation_10() -> None:
    torch.manual_seed(0)
    dense, conv = nn.Linear(400, 300), nn.Conv2d(32, 64, 3)
    kaiming_(dense, "relu")
    kaiming_(conv, "relu")
    assert float(dense.weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.02)
    assert not dense.bias.any()


@pytest.mark.parametrize("tied", [False, True])
def test_a_future_token_changes_no_earlier_logit(tied: bool) -> None:
    x = rows(TOKENS, 17)
    other = x.clone()
    other[:, 7] = (x[:, 7] + 1) % 17
    causal = model("transformer", TOKENS, (12, 17), 17, tied=tied).eval()
    change = (causal(x) - causal(other)).abs().amax((0, 2))
    assert not change[:7].any() and change[7:].min() > 0
    both = model("transformer", TOKENS, (12, 17), 17, tied=tied, causal=False).eval()
    assert (both(x) - both(other)).abs().amax((0, 2)).min() > 0


def test_pooled_transformers_see_every_token() -> None:
    for causal in (True, False):
        net = model("transformer", TOKENS, (5,), 17, causal=causal).eval()
        for at in (0, 11):
            x = rows(TOKENS, 17)
            other = x.clone()
            other[:, at] = (x[:, at] + 1) % 17
            assert (net(x) - net(other)).abs().amax(1).min() > 0


def test_tied_embeddings_are_one_tensor_also_after_loading() -> None:
    net = model("transformer", TOKENS, (12, 17), 17, tied=True)
    net.load_state_dict({key: value.clone() for key, value in net.state_dict().items()})
    assert net.readout.weight is net.tokens.weight


def test_shorter_sequences_are_prefixes() -> None:
    net, x = model("transformer", TOKENS, (12, 17), 17).eval(), rows(TOKENS, 17)
    torch.testing.assert_close(net(x[:, :5]), net(x)[:, :5])
    with pytest.raises(ValueError, match="13 tokens, positions for 12"):
        net(torch.zeros(1, 13, dtype=torch.long))


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_a_cnn_reads_series_with_kernels_of_three_points(norm: str) -> None:
    """A series of numbers is one of a single channel; layers stand where they stand for images, so that options mean the same."""
    series, single = (model("cnn", shape, (5,), norm=norm, channels=[4, 8], blocks=2).eval() for shape in ((1, 16), (16,)))
    single.load_state_dict({f"{int(key.split('.')[0]) + 1}.{key.split('.', 1)[1]}": value for key, value in series.state_dict().items()})
    x = rows((1, 16))
    assert torch.equal(series(x), single(x[:, 0]))
    images = dict(model("cnn", (1, 16, 16), (5,), norm=norm, channels=[4, 8], blocks=2).named_parameters())
    for key, parameter in series.named_parameters():
        assert images[key].shape == (*parameter.shape, 3) if parameter.dim() == 3 else parameter.shape in (images[key].shape, (5, 8 * 4))


def test_the_residual_shortcut_is_option_a() -> None:
    """With its convolutions' norms at zero a block passes every second pixel through and leaves new channels at zero."""
    net = model("resnet", (3, 32, 32), (10,), depth=8)
    block = net.blocks[1]  # type: ignore[index]
    nn.init.zeros_(block.norm2.weight)
    x = rows((16, 8, 8)).relu()
    out = block(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2]) and not out[:, 16:].any()


@pytest.mark.parametrize(
    ("name", "shapes", "changed", "said"),
    [
        ("cnn", ((64,), (10,), 17), {}, "cnn takes images.* or series of numbers.*; this dataset's rows are tokens"),
        ("cnn", ((), (10,), None), {}, "this dataset's rows are a single number: take another model"),
        ("cnn", ((2, 7), (10,), None), {}, "3 stages halve a series to nothing: 7 points"),
        ("resnet", ((), (10,), None), {}, "rows are a single number"),
        ("cnn", ((1, 4, 4), (10,), None), {}, "3 stages halve an image to nothing: 4 x 4 pixels"),
        ("resnet", ((3, 32, 32), (10,), None), {"depth": 18}, "6n \\+ 2.*found depth=18"),
        ("resnet", ((3, 32, 32), (10,), None), {"depth": 2}, "found depth=2"),
        ("transformer", ((12,), (12, 17), 17), {"heads": 3}, "found heads=3, width=128"),
        ("transformer", ((12,), (5,), None), {}, "takes tokens.* without a vocabulary"),
        ("transformer", ((1, 8, 8), (5,), 17), {}, "rows are 1 x 8 x 8"),
        ("transformer", ((12,), (11, 17), 17), {}, "rows of 12 tokens and outputs 11 x 17"),
        ("transformer", ((12,), (5,), 17), {"tied": True}, "tied=true needs one logit for each of 17 tokens"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name: str, shapes: Any, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        model(name, *shapes, **changed)
    assert "\n" not in str(caught.value)


def test_dropout_and_norms_are_where_they_are_asked_for() -> None:
    kinds = [type(module).__name__ for module in model("mlp", (4,), (2,), depth=1, norm="batch", dropout=0.5)]  # type: ignore[attr-defined]
    assert kinds == ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Readout"]
    for name, shapes in (("mlp", ((4,), (2,))), ("cnn", ((1, 8, 8), (2,))), ("transformer", ((6,), (2,), 9))):
        x = rows(shapes[0], *shapes[2:])
        steady, wild = model(name, *shapes, dropout=0.0), model(name, *shapes, dropout=0.5)
        assert torch.equal(steady(x), steady(x)) and not torch.equal(wild(x), wild(x))
        assert torch.equal(wild.eval()(x), wild(x))


def test_networks_are_built_alike_from_one_seed() -> None:
    for name, in_shape, out_shape, vocab in FITTING:
        one, two = (model(name, in_shape, out_shape, vocab).state_dict() for _ in range(2))
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_images_are_read_as_images() -> None:
    """A cnn is nearly indifferent to a shift by its total stride of a pattern away from the border, an mlp is not: no axis is mixed up."""
    x = torch.zeros(1, 1, 32, 32)
    x[..., 8:12, 8:12] = 1
    net = model("cnn", (1, 32, 32), (10,)).eval()
    features = nn.Sequential(*list(net)[:-3])  # type: ignore[call-overload]
    for down, right in ((8, 0), (0, 8), (8, 8)):
        moved = features(x.roll((down, right), (2, 3)))
        torch.testing.assert_close(moved, features(x).roll((down // 8, right // 8), (2, 3)), atol=1e-6, rtol=0)


def test_depth_counts_hidden_layers() -> None:
    for depth in (0, 1, 3):
        linear = [module for module in model("mlp", (6,), (2,), depth=depth, width=5).modules() if isinstance(module, nn.Linear)]
        assert len(linear) == depth + 1
        assert all(a.out_features == b.in_features for a, b in pairwise(linear))
        assert linear[0].in_features == prod((6,))
