"""Networks for images and coordinates: sines as their paper says, decoders of every size, torchvision by name; what networks refuse."""

from __future__ import annotations

import hashlib
from math import exp, pi, sqrt
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from parts import model, rows
from torch import Tensor, nn

from dlrun import vision
from dlrun.config import compose
from dlrun.errors import MissingError, UsageError
from dlrun.models.siren import Sine
from dlrun.models.torchvision import _last
from dlrun.train import build_run

# sines


def arguments(net: nn.Module, x: Tensor) -> list[Tensor]:
    """What goes into each layer's sine."""
    seen: list[Tensor] = []
    for layer in net:  # type: ignore[attr-defined]
        if isinstance(layer, Sine):
            seen.append((layer.omega * nn.functional.linear(x, layer.weight, layer.bias)).detach())
        x = layer(x)
    return seen


def distance(sample: Tensor, cumulative: Any) -> float:
    """Largest gap between the empirical distribution and `cumulative` (Kolmogorov's statistic)."""
    values = sample.flatten().double().sort().values
    return float((torch.arange(1, len(values) + 1, dtype=torch.float64) / len(values) - cumulative(values)).abs().max())


def arcsine(y: Tensor) -> Tensor:
    return torch.asin(y.clamp(-1, 1)) / pi + 0.5


def test_arguments_of_sines_are_normal_and_activations_about_arcsine_at_any_depth() -> None:
    """Sitzmann et al. 2020, supplement 1: the first activations are arcsine distributed (variance 1/2), the next arguments normal.

    From there on the paper is approximate: the sine of N(0, s^2) has variance (1 - exp(-2 s^2)) / 2, so that the next s^2 is
    1 - exp(-2 s^2), which ends at 0.797 (standard deviation 0.893), not at 1.
    """
    net = model("siren", (2,), (3,), width=1024, depth=8)
    x = torch.rand(2000, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    seen = arguments(net, x)
    assert distance(seen[0].sin(), arcsine) < 0.02 and float(seen[0].sin().var()) == pytest.approx(0.5, abs=0.02)
    variance = 1.0
    for number, argument in enumerate(seen[1:], 1):
        assert float(argument.var()) == pytest.approx(variance, rel=0.1), number
        scale = float(argument.std())
        assert distance(argument, lambda z, scale=scale: torch.special.ndtr(z / scale)) < 0.02
        assert distance(argument.sin(), arcsine) < 0.1
        variance = 1 - exp(-2 * variance)
    assert variance == pytest.approx(0.797, abs=0.005)


def test_the_initial_ranges_of_sines_are_the_papers() -> None:
    net: Any = model("siren", (2,), (3,), width=128, depth=3, omega_0=20.0, omega=10.0)
    first, second, third, readout = (module for module in net if isinstance(module, nn.Linear))
    assert (first.omega, second.omega, third.omega) == (20.0, 10.0, 10.0)
    for layer, bound in ((first, 1 / 2), (second, sqrt(6 / 128) / 10), (readout, sqrt(6 / 128) / 10)):
        assert 0.95 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert float(first.bias.detach().abs().max()) > 0.5 / sqrt(2) and not third.bias.any()


def test_a_derivative_of_sines_is_sines() -> None:
    """Section 3.1: the slope of sin(omega w x + b) is omega w cos(omega w x + b), a sine again."""
    net: Any = model("siren", (1,), (), width=1, depth=1)
    x = torch.linspace(-1, 1, 50)[:, None].requires_grad_()
    (slope,) = torch.autograd.grad(net(x).sum(), x)
    layer, readout = net[1], net[2]
    w, b, v = layer.weight[0, 0], layer.bias[0], readout.weight[0, 0]
    torch.testing.assert_close(slope, v * 30 * w * torch.cos(30 * (w * x + b)), atol=1e-5, rtol=1e-4)


def test_phases_stay_in_single_precision_under_autocast() -> None:
    net: Any = model("siren", (2,), (3,))
    x = rows((2,))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net[1](x), net[1](x.float())) and net[1](x).dtype == torch.float32
        assert net[2](net[1](x)).dtype == torch.bfloat16


# decoders


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (9, 14), (4, 31)])
def test_decoders_reach_every_size(size: tuple[int, int]) -> None:
    out = model("deconv", (5,), (2, *size), channels=[6, 4])(rows((5,)))
    assert out.shape == (32, 2, *size) and out[..., -1, -1].std() > 0


def test_decoders_keep_the_size_of_activations() -> None:
    for norm in ("none", "batch"):
        net: Any = model("deconv", (64,), (3, 64, 64), channels=[64, 48, 32, 16], norm=norm)
        x, sizes = rows((64,), n=64), []
        for layer in net:
            x = layer(x)
            sizes += [float(x.detach().square().mean().sqrt())] if isinstance(layer, nn.ReLU) else []
        assert len(sizes) == 4 and 0.3 < min(sizes) and max(sizes) < 3


def test_no_output_pixel_of_a_decoder_is_written_more_often_than_its_neighbours() -> None:
    """With equal weights an equal image comes out, the border apart: no checkerboard (Odena et al. 2016)."""
    net: Any = model("deconv", (5,), (1, 16, 16), channels=[3, 2], norm="none")
    up = net[-1]
    with torch.no_grad():
        up.weight.fill_(1.0)
        out = up(torch.ones(1, 2, 8, 8))
    assert (out[0, 0, 1:-1, 1:-1] == 8).all()


# torchvision


FAMILIES = ["alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5"]
FAMILIES += ["mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0"]
FAMILIES += ["swin_t", "swin_v2_t", "vgg11", "vit_b_16", "wide_resnet50_2", "efficientnet_v2_s", "convnext_small", "resnet50"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", FAMILIES)
def test_every_family_can_be_had_and_keeps_its_number_of_parameters(arch: str) -> None:
    size = 299 if arch == "inception_v3" else 224
    net = model("torchvision", (3, size, size), (1000,), arch=arch)
    meta = vision.torchvision().models.get_model_weights(arch).DEFAULT.meta
    if arch != "inception_v3":  # its count there is with the second head
        assert sum(p.numel() for p in net.parameters()) == meta["num_params"]
    assert _last(net).weight.shape[0] == 1000 and net(torch.randn(2, 3, size, size)).shape == (2, 1000)


def test_the_network_is_torchvisions_but_for_the_size_of_its_readout() -> None:
    ours: Any = model("torchvision", (3, 64, 64), (10,)).eval()
    theirs = vision.torchvision().models.resnet18(weights=None, num_classes=10).eval()
    theirs.load_state_dict(ours.state_dict())
    x = rows((3, 64, 64), n=2)
    assert torch.equal(ours(x), theirs(x)) and not hasattr(ours, "note")
    assert float(ours.fc.weight.detach().std()) == pytest.approx(0.1 / sqrt(512), rel=0.05)


def test_grey_images_get_a_first_convolution_of_their_own_and_it_is_said() -> None:
    run = build_run(compose([*runs.QUIET, "model=torchvision", "model.arch=shufflenet_v2_x0_5"]))
    assert "network model: torchvision shufflenet_v2_x0_5: its first convolution takes 1 channel instead of 3" in run.notes
    assert run.modules["model"].conv1[0].weight.shape == (24, 1, 3, 3)  # type: ignore[union-attr, index]


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((3, 32, 32), {"arch": "resnet19"}, "arch=resnet19 is none of torchvision's .* did you mean resnet18?"),
        ((3, 32, 32), {"arch": "fcn_resnet50"}, "is none of torchvision's"),
        ((3, 32, 32), {"weights": "V9"}, "weights=V9 is unknown for resnet18; there are: IMAGENET1K_V1, DEFAULT"),
        ((1, 8, 8), {"arch": "densenet121"}, "densenet121 cannot take images of 1 x 8 x 8 .*: take larger images"),
        ((3, 40, 40), {"arch": "vit_b_16"}, "vit_b_16 cannot take images of 3 x 40 x 40"),
        ((3, 32, 48), {"arch": "vit_b_16"}, "vit_b_16 takes square images; found 3 x 32 x 48"),
        ((64,), {}, "torchvision takes images, channels x height x width"),
    ],
)
def test_what_torchvision_cannot_do_is_refused_in_one_line(shape: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        model("torchvision", shape, (10,), **options)
    assert "\n" not in str(caught.value)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Weights of resnet18 in torch's cache, as a download would leave them: named with the beginning of their sha256."""
    theirs = vision.torchvision().models.resnet18(weights=None)
    kind = vision.torchvision().models.ResNet18_Weights
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs.state_dict(), folder / "w.pth")
    sha = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()[:8]
    (folder / "w.pth").rename(folder / f"resnet18-{sha}.pth")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(kind, "url", f"http://localhost:9/resnet18-{sha}.pth")
    return dict(theirs.state_dict())


def test_trained_weights_are_loaded_and_a_readout_for_other_classes_is_fresh(weights: dict[str, Tensor]) -> None:
    net: Any = model("torchvision", (3, 64, 64), (10,), weights="DEFAULT")
    assert "ResNet18_Weights.IMAGENET1K_V1" in net.note and "fresh readout fc for 10 outputs instead of 1000" in net.note
    state = net.state_dict()
    assert all(torch.equal(state[key], value) for key, value in weights.items() if not key.startswith("fc."))
    whole: Any = model("torchvision", (3, 64, 64), (1000,), weights="IMAGENET1K_V1")
    assert all(torch.equal(whole.state_dict()[key], value) for key, value in weights.items()) and "readout" not in whole.note


def test_trained_weights_on_grey_images_see_what_colours_alike_would_show(weights: dict[str, Tensor]) -> None:
    x = rows((1, 64, 64), n=2)
    colour = model("torchvision", (3, 64, 64), (1000,), weights="DEFAULT").eval()
    for channels in (1, 2):
        net = model("torchvision", (channels, 64, 64), (1000,), weights="DEFAULT").eval()
        torch.testing.assert_close(net(x.expand(-1, channels, -1, -1)), colour(x.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)
        assert f"its first convolution takes {channels} channel" in net.note and "summed over colours" in net.note  # type: ignore[operator]


def test_damaged_or_absent_weights_are_one_line(weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    file = next(Path(torch.hub.get_dir(), "checkpoints").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(MissingError, match="the file is damaged, delete it"):
        model("torchvision", (3, 64, 64), (10,), weights="DEFAULT")
    file.unlink()
    with pytest.raises(MissingError, match=r"cannot be brought .*: bring http://localhost:9/resnet18-.* yourself, or say weights=null"):
        model("torchvision", (3, 64, 64), (10,), weights="DEFAULT")


# what is refused


@pytest.mark.parametrize(
    ("name", "shapes", "changed", "said"),
    [
        ("vit", ((64,), (10,), None), {}, "vit takes images, channels x height x width"),
        ("vit", ((3, 28, 20), (10,), None), {"patch": 8}, "patch=8 does not tile images of 28 x 20 pixels; these do: 1, 2, 4$"),
        ("vit", ((3, 8, 8), (10,), None), {"heads": 3}, "found heads=3, width=128"),
        ("lstm", ((), (10,), None), {}, "lstm takes sequences.*rows are a single number"),
        ("gru", ((3, 4), (10,), 17), {}, "gru takes tokens"),
        ("rnn", ((12,), (12, 17), 17), {"pool": "last"}, "pool=last would show each prediction the tokens after it"),
        ("rnn", ((12,), (5,), 17), {"pool": "none"}, "pool=none gives one output a step; found 12 steps and outputs 5"),
        ("deconv", ((8,), (10,), None), {}, "deconv makes images.* asked for 10"),
        ("deconv", ((8,), (1, 7, 9), None), {"channels": [4, 4, 4]}, "3 stages cannot end at 7 x 9 pixels"),
        ("deconv", ((8,), (1, 7, 9), None), {"channels": []}, "0 stages cannot end"),
        ("transformer", ((12,), (12, 17), 17), {"pool": "mean"}, "pool=mean has no effect"),
        ("transformer", ((12,), (5,), 17), {"pool": "first"}, "pool=first of a causal transformer sees the first token alone"),
        ("transformer", ((12,), (5,), 17), {"positions": "rotary", "width": 12}, "width / heads must be even; found 3"),
        ("transformer", ((12,), (5,), 17), {"positions": "sinusoidal", "width": 9, "heads": 3}, "width must be even; found width=9"),
        ("transformer", ((12,), (5,), 17), {"separator": 17}, "separator=17 is no token: there are 17, from 0"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(name: str, shapes: Any, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        model(name, *shapes, **changed)
    assert "\n" not in str(caught.value)


# a language model does not look ahead


@pytest.mark.parametrize("words", [("model=lstm", "model.bidirectional=true"), ("model=transformer", "model.causal=false")])
def test_a_language_model_refuses_a_network_that_sees_later_tokens(words: tuple[str, ...], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("abc " * 200)
    data = ("task=language_model", "dataset=text_file", f"dataset.path={text}", "dataset.context=8")
    with pytest.raises(UsageError, match="this network sees the tokens it is to predict"):
        build_run(compose([*runs.QUIET, *data, *words]))
    build_run(compose([*runs.QUIET, *data, words[0]]))
