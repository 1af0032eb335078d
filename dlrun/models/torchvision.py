"""torchvision's image classifiers by name, with weights trained on ImageNet on request.

Source: torchvision.models, "Models and pre-trained weights" (each architecture's page names its paper). Its names and initialisation; the
readout starts small, as that of every network here. resnet18 with 1000 classes has 11,689,512 parameters.
"""

from __future__ import annotations

from difflib import get_close_matches
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dlrun import vision
from dlrun.nn.init import READOUT_GAIN, kaiming_
from dlrun.nn.layers import image_shape, shape_text

IMAGENET = 1000
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Second heads of inception_v3 and googlenet: their losses are theirs to weigh, so they are left out."""


class Shaped(nn.Module):
    """A classifier whose outputs [B, K] are laid out as [B, *out_shape]."""

    def __init__(self, net: nn.Module, out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net, self.out_shape = net, out_shape

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out.reshape(len(out), *self.out_shape)


def torchvision(in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, arch: str, weights: str | None) -> nn.Module:
    """Images [B, C, H, W] -> [B, *out_shape]; `weights` is null, DEFAULT or a name such as IMAGENET1K_V1.

    What differs from torchvision's own network is said in `note`: a first convolution for other than 3 channels, a readout for other than
    1000 outputs. Raises ValueError for an unknown name and for images that the architecture cannot take, MissingError without its weights.
    """
    shape, outputs = image_shape("torchvision", in_shape), prod(out_shape)
    known = vision.classifiers()
    if arch not in known:
        close = get_close_matches(arch, known, 1)
        guess = f": did you mean {close[0]}?" if close else f": {', '.join(known)}"
        raise ValueError(f"arch={arch} is none of torchvision's {len(known)} classifiers{guess}")
    brought = None if weights is None else vision.pretrained(arch, weights)
    net, notes = _build(arch, shape, outputs, brought is not None), []
    head = _last(net)
    kaiming_(head, "linear", READOUT_GAIN)
    if shape[0] != 3:
        notes.append(f"its first convolution takes {shape[0]} channel{'s' * (shape[0] != 1)} instead of 3")
        _widen(net, shape[0])
    if brought is not None:
        notes.append(_load(net, head, *brought, channels=shape[0]))
    _try(net, arch, shape)
    whole = net if len(out_shape) == 1 else Shaped(net, out_shape)
    if notes:
        whole.note = f"torchvision {arch}: {'; '.join(notes)}"  # type: ignore[assignment]
    return whole


def _build(arch: str, shape: tuple[int, int, int], outputs: int, trained: bool) -> nn.Module:
    """The network for 3 channels; architectures that fix the size of their images are told it, unless weights do."""
    _, height, width = shape
    more: dict[str, Any] = {}
    if arch in ("googlenet", "inception_v3"):
        more = {"aux_logits": False, "init_weights": True, "transform_input": trained and shape[0] == 3}
    elif arch.startswith("vit_") and not trained:
        if height != width:
            raise ValueError(f"{arch} takes square images; found {shape_text(shape)}")
        more = {"image_size": height}
    elif arch.startswith("maxvit") and not trained:
        more = {"input_size": (height, width)}
    try:
        net: nn.Module = vision.torchvision().models.get_model(arch, weights=None, num_classes=outputs, **more)
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError) as error:
        raise ValueError(f"{arch} cannot take images of {shape_text(shape)} ({_first_line(error)})") from None
    return net


def _last(net: nn.Module) -> nn.Linear | nn.Conv2d:
    """The readout: the last layer with weights."""
    return [module for module in net.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]


def _name(net: nn.Module, wanted: nn.Module) -> str:
    names: list[str] = [name for name, module in net.named_modules() if module is wanted]
    return names[0]


def _first(net: nn.Module) -> tuple[str, nn.Conv2d]:
    return next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def _widen(net: nn.Module, channels: int) -> None:
    """Put a first convolution for `channels` in the place of that for 3, with Kaiming weights."""
    name, old = _first(net)
    size: list[Any] = [old.kernel_size, old.stride, old.padding, old.dilation, old.groups, old.bias is not None]
    new = nn.Conv2d(channels, old.out_channels, *size)
    kaiming_(new, "relu")
    parent, _, key = name.rpartition(".")
    setattr(net.get_submodule(parent), key, new)


def _load(net: nn.Module, head: nn.Module, name: str, state: dict[str, Tensor], *, channels: int) -> str:
    """Load trained weights but for those of a readout for other classes, the first convolution's made to fit; says what was done."""
    own, first, last = net.state_dict(), f"{_first(net)[0]}.weight", _name(net, head)
    state = {key: value for key, value in state.items() if not key.startswith(AUXILIARY)}
    said = f"weights {name}, made for pixels standardised as ImageNet's"
    if channels != 3:
        # Each channel gets its share of the sum over colours: a grey image gives what it gave when all three colours showed it.
        state[first] = (state[first].sum(1, keepdim=True) / channels).expand_as(own[first])
        said += ", those of the first convolution summed over colours"
    fresh = sorted(key for key in own if key not in state or state[key].shape != own[key].shape)
    if any(not key.startswith(f"{last}.") for key in fresh) or state.keys() - own.keys():
        odd = sorted({key for key in fresh if not key.startswith(f"{last}.")} | (state.keys() - own.keys()))
        raise ValueError(f"weights {name} do not fit in {', '.join(odd[:4])}: say weights=null")
    net.load_state_dict({**own, **{key: value for key, value in state.items() if key not in fresh}})
    outputs = own[f"{last}.weight"].shape[0]
    return f"{said}, a fresh readout {last} for {outputs} outputs instead of {IMAGENET}" if fresh else said


@torch.no_grad()
def _try(net: nn.Module, arch: str, shape: tuple[int, int, int]) -> None:
    """One forward on zeros in eval mode; ValueError where the architecture cannot take such images. Draws nothing, changes nothing."""
    net.eval()
    try:
        net(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, AssertionError, ZeroDivisionError) as error:
        say = "take larger images, or another arch such as resnet18"
        raise ValueError(f"{arch} cannot take images of {shape_text(shape)} ({_first_line(error)}): {say}") from None
    finally:
        net.train()


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
