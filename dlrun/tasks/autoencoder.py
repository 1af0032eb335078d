"""Autoencoder: an encoder squeezes a row into a few numbers, a decoder makes the row of them again.

Source: Hinton, Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks"; Goodfellow, Bengio, Courville 2016, "Deep
Learning", section 14.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.criteria import reference
from dlrun.functional.pictures import as_shares, stacked, takes_shares
from dlrun.noise import Noise
from dlrun.ranges import Count
from dlrun.task import LossTask
from dlrun.types import DataSpec, Look, Networks, NetworkShape

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
        return takes_shares(self.criterion)

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """y becomes the target. Raises UsageError where a batch has no tensor x, or bce gets values that are no shares."""
        x = batch.get("x")
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise UsageError(f"task autoencoder makes x again, a tensor of numbers; this dataset gives {', '.join(batch)}")
        return batch.replace(y=as_shares(x, self.spec, "an autoencoder") if self.shares else x)

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
