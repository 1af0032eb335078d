"""Autoencoder: an encoder squeezes a row into a few numbers, a decoder makes the row of them again.

Source: Hinton, Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks"; Goodfellow, Bengio, Courville 2016, "Deep
Learning", section 14.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.criteria import reference, unwrap
from dlrun.noise import Noise
from dlrun.ranges import Count
from dlrun.task import LossTask
from dlrun.types import DataSpec, Look, Networks, NetworkShape

TOLERANCE = 1e-4
"""How far a share may lie outside [0, 1] by rounding; it is cut off."""
PAIRS = 16
"""How many rows are shown, spread over those at hand: a split is often sorted by class."""


class autoencoder(LossTask):
    """x [B, *in_shape] is input and target; encoder gives [B, latent], decoder [B, *in_shape]. Labels, where there are any, are not read.

    With mse the target is x as the network gets it. With bce it is x as shares in [0, 1] and the decoder gives logits: where the dataset
    says how its pixels were standardised that is undone, else x itself has to lie in [0, 1].
    """

    slots = MappingProxyType({"model": ("encoder", "decoder")})
    kind = "regression"

    def __init__(self, *, latent: Count) -> None:
        self.latent = latent

    def default_loss(self, spec: DataSpec) -> str | None:
        """Mean squared error."""
        return "mse"

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """encoder: a row -> latent numbers; decoder: these -> a row. Raises UsageError for rows that are tokens or have no shape."""
        if spec.vocab is not None or not spec.in_shape:
            found = f"tokens of a vocabulary of {spec.vocab}" if spec.vocab is not None else "rows without a shape"
            raise UsageError(f"task autoencoder makes numbers again; this data has {found}")
        return {"encoder": NetworkShape(spec.in_shape, (self.latent,)), "decoder": NetworkShape((self.latent,), spec.in_shape)}

    @property
    def shares(self) -> bool:
        """Whether the loss takes logits and targets in [0, 1]."""
        loss, _ = unwrap(self.criterion)
        return getattr(loss, "kind", None) == "binary" or isinstance(loss, (nn.BCEWithLogitsLoss, nn.BCELoss))

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """y becomes the target. Raises UsageError where a batch has no tensor x, or bce gets values that are no shares."""
        x = batch.get("x")
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise UsageError(f"task autoencoder makes x again, a tensor of numbers; this dataset gives {', '.join(batch)}")
        return batch.replace(y=self._unit(x) if self.shares else x)

    def _unit(self, x: Tensor) -> Tensor:
        """x as shares in [0, 1]."""
        if self.spec.mean is not None and self.spec.std is not None:
            axes = (-1,) + (1,) * (x.dim() - 2)
            mean, std = (torch.tensor(numbers, device=x.device, dtype=x.dtype).view(axes) for numbers in (self.spec.mean, self.spec.std))
            x = x * std + mean
        low, high = x.aminmax()
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            raise UsageError(f"loss bce of an autoencoder needs x in [0, 1]; found {float(low):.4g} to {float(high):.4g}: say loss=mse")
        return x.clamp(0, 1)

    def outputs(self, nets: Networks, batch: Batch) -> Tensor:
        """decoder(encoder(x)): reconstructions, or their logits."""
        made: Tensor = nets.decoder(nets.encoder(batch["x"]))
        return made

    def logits(self, outputs: Tensor) -> Tensor:
        """Reconstructions, with bce in [0, 1]: metrics compare them with their targets."""
        return outputs.sigmoid() if self.shares else outputs

    def compared(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor, int]:
        """(reconstructions, originals, rows), as the network gets them: a unit that the dataset gives its labels is not theirs."""
        return self.logits(outputs), batch["y"], len(batch)

    def loss_floor(self, spec: DataSpec) -> float | None:
        """0 for mse; unknown for bce, whose least value is the entropy of the targets."""
        return None if self.shares else reference(self.criterion, "floor", spec)

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Images: each original above its reconstruction. Points in the plane: both. A latent of two numbers: where rows lie."""
        x, made = batch["y"], self.logits(self.outputs(nets, batch))
        looks: dict[str, Look] = {}
        if x.dim() == 4:
            shown = torch.linspace(0, len(x) - 1, min(len(x), PAIRS)).long()
            looks["reconstructions"] = Look("images", stacked(x[shown], made[shown]), "original above reconstruction")
        elif x.dim() == 2 and x.shape[1] == 2:
            looks["reconstructions"] = Look("scatter", {"original": x, "reconstruction": made}, "reconstructions over originals")
        if self.latent == 2:
            looks["latents"] = Look("scatter", nets.encoder(batch["x"]), "latents")
        return looks


def stacked(above: Tensor, below: Tensor) -> Tensor:
    """[N, C, H, W] twice -> [N, C, 2 H + 1, W], a bright line between; drawn as one image, both have the same scale of grey."""
    brightest = torch.maximum(above.amax((1, 2, 3)), below.amax((1, 2, 3)))[:, None, None, None]
    return torch.cat((above, brightest.expand(-1, above.shape[1], 1, above.shape[3]), below), 2)
