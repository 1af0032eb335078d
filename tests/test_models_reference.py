"""Networks against torch's and torchvision's own with the same weights, and parameter counts as in the literature."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from parts import model, rows
from torch import Tensor, nn

from dlrun.nn.attention import Rotary, sinusoids
from dlrun.vision import torchvision

BERT = {"width": 768, "depth": 12, "heads": 12, "causal": False, "norm_first": False}


def count(name: str, in_shape: tuple[int, ...], out_shape: tuple[int, ...], vocab: int | None = None, **changed: Any) -> int:
    """Parameters of a network that is built without memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in model(name, in_shape, out_shape, vocab, **changed).parameters())


def test_bert_base_has_110_million_parameters() -> None:
    """Devlin et al. 2019, section 3: 110M. 109,482,240 counts embeddings, blocks and the pooler, whose place the readout has."""
    assert count("transformer", (512,), (768,), 30522, pool="first", separator=102, **BERT) == 109_482_240
    assert count("transformer", (512,), (768,), 30522, pool="first", **BERT) == 109_482_240 - 2 * 768


def test_gpt2_small_has_124_million_parameters() -> None:
    """Radford et al. 2019: width 768, 12 blocks, 1024 positions; 124,439,808 with the embeddings as readout, without a bias."""
    options: dict[str, Any] = {"width": 768, "depth": 12, "heads": 12, "tied": True}
    assert count("transformer", (1024,), (1024, 50257), 50257, readout_bias=False, **options) == 124_439_808
    assert count("transformer", (1024,), (1024, 50257), 50257, **options) == 124_439_808 + 50257


def test_vit_b_16_has_86_6_million_parameters() -> None:
    assert count("vit", (3, 224, 224), (1000,), patch=16, width=768, depth=12, heads=12) == 86_567_656


@pytest.mark.parametrize(("name", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_counts_are_the_closed_form(name: str, gates: int, both: bool) -> None:
    F, H, C = 7, 20, 3
    ways = 2 if both else 1
    expected = ways * gates * (H * F + H * H + 2 * H) + ways * gates * (H * ways * H + H * H + 2 * H) + (ways * H + 1) * C
    assert count(name, (5, F), (C,), width=H, depth=2, bidirectional=both) == expected
    assert count(name, (5,), (C,), 11, width=H, depth=1) == 11 * H + gates * (2 * H * H + 2 * H) + (H + 1) * C


def test_torchvisions_resnet18_has_11_69_million_parameters() -> None:
    assert sum(p.numel() for p in model("torchvision", (3, 64, 64), (1000,)).parameters()) == 11_689_512


def close(one: Tensor, two: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(one, two, atol=atol, rtol=0)


OURS_TO_TORCH = {
    "attention.qkv.weight": "self_attn.in_proj_weight",
    "attention.qkv.bias": "self_attn.in_proj_bias",
    "attention.out.weight": "self_attn.out_proj.weight",
    "attention.out.bias": "self_attn.out_proj.bias",
    "up.weight": "linear1.weight",
    "up.bias": "linear1.bias",
    "down.weight": "linear2.weight",
    "down.bias": "linear2.bias",
}


def renamed(state: Mapping[str, Tensor], table: Mapping[str, str], prefix: str = "") -> dict[str, Tensor]:
    return {
        table.get(key, key): state[f"{prefix}{key}"] for key in (name.removeprefix(prefix) for name in state if name.startswith(prefix))
    }


def shaken(net: nn.Module) -> nn.Module:
    """Weights away from where they start, so that norms and biases are put to the test as well."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return net


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_a_transformers_blocks_are_torchs_encoder_layers(activation: str, norm_first: bool, causal: bool, padded: bool) -> None:
    options: dict[str, Any] = {"width": 24, "heads": 3, "depth": 2, "mlp_ratio": 2.5, "causal": causal}
    net: Any = shaken(model("transformer", (9,), (9, 17), 17, activation=activation, norm_first=norm_first, **options)).eval()
    mask = torch.arange(9) < torch.tensor([9, 4, 7])[:, None] if padded else None
    x = torch.randn(3, 9, 24, generator=torch.Generator().manual_seed(5))
    ahead = nn.Transformer.generate_square_subsequent_mask(9).isinf() if causal else None
    ours, theirs = x, x
    for number, block in enumerate(net.blocks):
        layer = nn.TransformerEncoderLayer(24, 3, 60, 0.0, activation, batch_first=True, norm_first=norm_first)
        layer.load_state_dict(renamed(net.state_dict(), OURS_TO_TORCH, f"blocks.{number}."))
        ours = block(ours, mask)
        theirs = layer(theirs, src_mask=ahead, src_key_padding_mask=None if mask is None else ~mask)
    real = torch.ones(3, 9, dtype=torch.bool) if mask is None else mask
    close(ours[real], theirs[real])


def test_a_vit_is_torchvisions_vit_b_16() -> None:
    theirs = shaken(torchvision().models.vit_b_16(weights=None, num_classes=12, image_size=48)).eval()
    ours: Any = model("vit", (3, 48, 48), (12,), patch=16, width=768, depth=12, heads=12).eval()
    table = {
        "class_token": "token",
        "encoder.pos_embedding": "positions",
        "conv_proj.weight": "patches.weight",
        "conv_proj.bias": "patches.bias",
        "encoder.ln.weight": "norm.weight",
        "encoder.ln.bias": "norm.bias",
        "heads.head.weight": "readout.weight",
        "heads.head.bias": "readout.bias",
    }
    inner = {"self_attention": "attention", "ln_1": "norm1", "ln_2": "norm2", "mlp.0": "up", "mlp.3": "down"}
    state = {}
    for key, value in theirs.state_dict().items():
        name = table.get(key, key.replace("encoder.layers.encoder_layer_", "blocks."))
        for old, new in inner.items():
            name = name.replace(f".{old}.", f".{new}.")
        name = name.replace("in_proj_", "qkv.").replace("out_proj", "out")
        state[name] = value[0, 0] if name == "token" else value[0] if name == "positions" else value
    ours.load_state_dict(state)
    x = rows((3, 48, 48), n=2)
    with torch.no_grad():
        close(ours(x), theirs(x))
        assert float(theirs(x).std()) > 0.1


def test_patches_are_read_row_by_row_and_order_counts_only_with_positions() -> None:
    x = rows((1, 8, 8), n=4)
    swapped = torch.cat((x[..., 4:], x[..., :4]), -1)  # whole patches change places
    for positions, pool in (("learned", "class"), ("none", "class"), ("none", "mean")):
        net = model("vit", (1, 8, 8), (10,), positions=positions, pool=pool).eval()
        gap = float((net(x) - net(swapped)).detach().abs().max())
        assert gap > 1e-2 if positions == "learned" else gap < 1e-5


def test_sinusoidal_positions_are_vaswanis() -> None:
    table = sinusoids(50, 16)
    for position, feature in ((0, 0), (7, 4), (49, 9), (23, 15)):
        angle = position / 10_000 ** (2 * (feature // 2) / 16)
        assert float(table[position, feature]) == pytest.approx(math.cos(angle) if feature % 2 else math.sin(angle), abs=1e-5)


def test_rotary_products_depend_on_distance_alone() -> None:
    """Su et al. 2021, section 3.1: <f(q, m), f(k, n)> = g(q, k, m - n); no position has any effect on the size."""
    turn = Rotary(40, 8)
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = [turn(vector.expand(1, 1, 40, 8))[0, 0] for vector in (q, k)]
    products = turned[0] @ turned[1].T
    for distance in (-7, 0, 3):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert float(products.diagonal(3)[0]) != pytest.approx(float(products.diagonal(0)[0]), abs=1e-3)
    torch.testing.assert_close(turned[0].norm(dim=1), q.norm().expand(40), atol=1e-5, rtol=0)


def test_order_is_seen_where_there_are_positions() -> None:
    """Without positions an encoder is equivariant to permutations (to 1e-5), with any kind it is not."""
    x, order = rows((12,), 17), torch.randperm(12, generator=torch.Generator().manual_seed(1))
    for positions in ("learned", "sinusoidal", "rotary", "none"):
        net = shaken(model("transformer", (12,), (12, 17), 17, causal=False, positions=positions)).eval()
        gap = float((net(x)[:, order] - net(x[:, order])).detach().abs().max())
        assert gap < 1e-5 if positions == "none" else gap > 1e-2, positions


def test_segments_change_after_the_first_separator() -> None:
    net: Any = model("transformer", (6,), (3,), 9, causal=False, separator=8)
    x = torch.tensor([[1, 2, 8, 3, 8, 4]])
    hidden = torch.zeros(1, 6, 128)
    added = net.embedding(hidden, x)[0]
    first, second = net.embedding.segments.weight
    assert all(torch.equal(added[i], first) for i in (0, 1, 2)) and all(torch.equal(added[i], second) for i in (3, 4, 5))


@pytest.mark.parametrize(("pool", "causal"), [("first", False), ("last", False), ("mean", False), ("last", True), ("mean", True)])
def test_padding_is_not_seen(pool: str, causal: bool) -> None:
    net = shaken(model("transformer", (12,), (5,), 17, pool=pool, causal=causal)).eval()
    x = rows((12,), 17, n=3)
    mask = torch.arange(12) < torch.tensor([12, 5, 8])[:, None]
    out = net((x, mask))
    for row, size in enumerate((12, 5, 8)):
        close(out[row : row + 1], net(x[row : row + 1, :size]))


CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_are_torchs(name: str, both: bool) -> None:
    """Outputs of stacked layers equal one module of several, also the last state and its mean over steps."""
    x = rows((9, 4), n=5)
    theirs = CELLS[name](4, 16, 3, batch_first=True, bidirectional=both)
    with torch.no_grad():
        hidden, state = theirs(x)
        last = state[0] if name == "lstm" else state
    for pool, expected in (
        ("last", torch.cat(tuple(last[-2 if both else -1 :]), 1)),
        ("mean", hidden.mean(1)),
        ("none", hidden),
    ):
        ours: Any = model(name, (9, 4), (9, 2), width=16, depth=3, bidirectional=both, pool=pool).eval()
        weights = {re.sub(r"(.*)_l(\d)(.*)", r"layers.\2.\1_l0\3", key): value for key, value in theirs.state_dict().items()}
        ours.load_state_dict({**ours.state_dict(), **weights})
        with torch.no_grad():
            close(ours(x), ours.readout(expected), 1e-6)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("pool", ["last", "mean"])
def test_padded_steps_are_as_if_they_were_not_there(name: str, both: bool, pool: str) -> None:
    net = model(name, (9, 4), (3,), width=16, depth=2, bidirectional=both, pool=pool).eval()
    x, sizes = rows((9, 4), n=3), (9, 1, 6)
    out = net((x, torch.arange(9) < torch.tensor(sizes)[:, None]))
    for row, size in enumerate(sizes):
        close(out[row : row + 1], net(x[row : row + 1, :size]), 1e-6)


@pytest.mark.parametrize("wrong", [torch.tensor([[True, False, True]]), torch.tensor([[False, False, False]])])
def test_a_mask_with_holes_is_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match="padding stands at the end"):
        model("gru", (3, 2), (4,))((torch.zeros(1, 3, 2), wrong))


def test_no_state_is_carried_from_batch_to_batch() -> None:
    for name in CELLS:
        net, x = model(name, (6, 3), (4,)).eval(), rows((6, 3))
        first = net(x)
        net(rows((6, 3), n=7))
        assert torch.equal(net(x), first)


def test_recurrent_networks_see_no_later_step_unless_both_ways() -> None:
    x = rows((12,), 17)
    other = x.clone()
    other[:, 7] = (x[:, 7] + 1) % 17
    for name in CELLS:
        change = (model(name, (12,), (12, 17), 17)(x) - model(name, (12,), (12, 17), 17)(other)).detach().abs().amax((0, 2))
        assert not change[:7].any() and change[7:].min() > 0
        both = model(name, (12,), (12, 17), 17, bidirectional=True)
        assert (both(x) - both(other)).detach().abs().amax((0, 2))[:7].min() > 0


def test_images_are_read_row_by_row() -> None:
    """Of an image [C, H, W] step t is row t with all its channels: a change in the last row leaves the first outputs alone."""
    net = model("lstm", (3, 5, 4), (5, 2))
    x = rows((3, 5, 4))
    other = x.clone()
    other[:, :, 4] += 1
    change = (net(x) - net(other)).detach().abs().amax((0, 2))
    assert net(x).shape == (32, 5, 2) and not change[:4].any() and change[4] > 0


def test_forget_gates_start_open_as_far_as_asked() -> None:
    """The gate's argument at zero input is the sum of both biases: 1 by default, 4 where asked; null leaves torch's."""
    for bias in (1.0, 4.0):
        net: Any = model("lstm", (6, 3), (4,), width=8, depth=2, forget_bias=bias, bidirectional=True)
        for layer in net.layers:
            for way in ("", "_reverse"):
                total = (getattr(layer, f"bias_ih_l0{way}") + getattr(layer, f"bias_hh_l0{way}")).detach()
                assert torch.equal(total[8:16], torch.full((8,), bias)) and not torch.equal(total[:8], torch.full((8,), bias))
    plain: Any = model("lstm", (6, 3), (4,), width=8, forget_bias=None)
    torch.manual_seed(0)
    assert torch.equal(plain.layers[0].bias_ih_l0, nn.LSTM(3, 8).bias_ih_l0)


def fingerprint(values: Tensor) -> float:
    """The sum of all values, each times the cosine of its place: another draw, order or scale shows in the first digits."""
    return float((values.detach().double().flatten() * torch.arange(values.numel()).double().cos()).sum())


@pytest.mark.parametrize(
    ("changed", "weights", "outputs"),
    [
        ({}, -10.63446, -2.44252),
        ({"tied": True}, -12.4839, -0.47126),
        ({"causal": False, "depth": 3, "width": 64, "heads": 8}, -10.16257, -5.04502),
    ],
)
def test_a_transformers_defaults_stay_the_network_they_always_were(changed: dict[str, Any], weights: float, outputs: float) -> None:
    """Taken before it got positions, norms and pooling to choose from."""
    net = model("transformer", (12,), (12, 17), 17, **changed).eval()
    assert fingerprint(torch.cat([value.flatten() for value in net.state_dict().values()])) == pytest.approx(weights, rel=1e-4)
    assert fingerprint(net(rows((12,), 17))) == pytest.approx(outputs, rel=1e-3)
