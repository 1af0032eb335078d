"""Imitation while playing: the network plays Pong, an expert says the right move at each frame it meets, and it learns from all of them.

Source: Ross, Gordon, Bagnell 2011, "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning", algorithm
3.1 (DAgger) with beta_i = I(i = 1): the first rallies are the expert's, all others the network's own. Draws by loss and their weights:
Schaul, Quan, Antonoglou, Silver 2016, "Prioritized Experience Replay", eq. 1 and section 3.4, weights not divided by their maximum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import log
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.functional.pong import FEATURES, MOVES, SERVE, expert, play
from dlrun.noise import Noise
from dlrun.ranges import Count, Fraction, NonNegative, Positive
from dlrun.task import LossTask
from dlrun.types import DataSpec, Look, Mean, Networks, NetworkShape, Whole

EPSILON = 0.01  # nats added to a frame's loss, so that each is drawn now and then
each = partial(F.cross_entropy, reduction="none")  # logits [N, 3], y [N] -> [N], or logits [B, 3, replay], y [B, replay] -> [B, replay]


class imitation(LossTask):
    """A row of x [B, 4] is a rally of T frames. A step learns from `replay` remembered frames for each, then plays and remembers all B.

    Frame i of N is drawn with P(i) = p_i^alpha / sum_k p_k^alpha, where p_i is its loss when last seen + 0.01 nats, and its loss is
    weighed by (N P(i))^-beta. With beta 1 the gradient is on average that of the N frames drawn equally often. A frame takes 24 bytes.
    """

    slots = MappingProxyType({"loss": None})
    kind = "other"

    def __init__(self, *, expert_plays: bool, replay: Count, alpha: NonNegative, beta: Fraction, paddle: Positive) -> None:
        self.expert_plays, self.replay, self.alpha, self.beta, self.half = expert_plays, replay, alpha, beta, paddle / 2
        self.expert = partial(expert, half=paddle / 2)
        self.frames, self.losses = torch.zeros(0, FEATURES), torch.zeros(0)

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """`model`: a frame to one logit a move. Raises UsageError for rows that are no rallies."""
        if spec.in_shape != (len(SERVE),):
            raise UsageError(f"task imitation: rows have shape {list(spec.in_shape)}, expected [{len(SERVE)}], rallies: dataset=pong")
        return {"model": NetworkShape((FEATURES,), (MOVES,))}

    def expected_initial_loss(self, spec: DataSpec) -> float:
        """ln 3: three moves."""
        return log(MOVES)

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """x [B, replay, 5] are frames from memory (before there is one: of the expert's play), y its moves; the rallies are `serve`."""
        serve, shape = batch["x"], (len(batch), self.replay)
        generator = noise.generator("replay", serve.device)
        if len(self.frames):
            p = (self.losses.to(serve) + EPSILON) ** self.alpha
            place = torch.multinomial(p, shape[0] * shape[1], replacement=True, generator=generator).view(shape)
            x, weight = self.frames.to(serve)[place], (p.mean() / p[place]) ** self.beta
        else:
            frames, weight = play(serve, self.expert, self.half)[0], serve.new_ones(shape)
            place = torch.randint(frames.shape[1], shape, generator=generator, device=serve.device)
            x = frames.gather(1, place[..., None].expand(-1, -1, FEATURES))
        return batch.replace(serve=serve, x=x, y=self.expert(x), weight=weight, place=place)

    def outputs(self, nets: Networks, batch: Batch) -> Tensor:
        """Logits [B, replay, 3]."""
        logits: Tensor = nets.model(batch["x"].flatten(0, 1))
        return logits.view(*batch["y"].shape, MOVES)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Mean of weight x cross-entropy with the expert's moves, in nats."""
        return (batch["weight"] * each(outputs.mT, batch["y"])).mean()  # type: ignore[no-any-return]

    def rallies(self, nets: Networks, serve: Tensor, expert_plays: bool = False) -> tuple[Tensor, Tensor]:
        """Played from serve [B, 4]: frames [B, T, 5], hits [B]."""
        return play(serve, self.expert if expert_plays else lambda frame: nets.model(frame).argmax(-1), self.half)

    @torch.no_grad()
    def after_step(self, nets: Networks, batches: Sequence[Batch]) -> None:
        """Notes what drawn frames cost by now, plays the rallies and remembers their frames with what they cost."""
        for batch in batches if len(self.frames) else ():
            self.losses[batch["place"]] = each(self.outputs(nets, batch).mT, batch["y"]).to(self.losses)
        frames = self.rallies(nets, torch.cat([batch["serve"] for batch in batches]), self.expert_plays)[0].flatten(0, 1)
        self.frames = torch.cat((self.frames.to(frames), frames))
        self.losses = torch.cat((self.losses.to(frames), each(nets.model(frames), self.expert(frames)).to(frames)))

    def evaluate(self, nets: Networks, batch: Batch) -> Mapping[str, Mean | Whole]:
        """hit_rate of its own play, loss and agreement with the expert over the frames it met; the expert's hit_rate."""
        (frames, hits), (_, by_expert) = self.rallies(nets, batch["serve"]), self.rallies(nets, batch["serve"], expert_plays=True)
        logits, y = nets.model(frames.flatten(0, 1)), self.expert(frames).flatten()
        seen = {"hit_rate": hits, "agreement": logits.argmax(-1) == y, "expert_hit_rate": by_expert, "loss": each(logits, y)}
        means = {name: Mean(values.double().sum(), float(values.numel())) for name, values in seen.items()}
        return {**means, **{name: metric(logits, y, len(batch)) for name, metric in self.metrics.items()}}

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Four rallies over time: the ball, the network's paddle and the expert's."""
        (own, hits), (experts, _) = (self.rallies(nets, batch["serve"][:4], expert_plays) for expert_plays in (False, True))
        heights = {"ball": own[..., 1], "network's paddle": own[..., 4], "expert's paddle": experts[..., 4]}
        looks = {}
        for rally, hit in enumerate(hits.tolist()):
            lines = {name: (list(range(own.shape[1])), places[rally].tolist()) for name, places in heights.items()}
            looks[f"rally_{rally}"] = Look("lines", {**lines, "xlabel": "frame", "ylabel": "height"}, "hit" if hit else "missed")
        return looks

    def state_dict(self) -> dict[str, Any]:
        """The memory."""
        return {"frames": self.frames, "losses": self.losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError for what is no memory."""
        frames, losses = state["frames"], state["losses"]
        if frames.shape != (len(losses), FEATURES) or not (frames.isfinite().all() and losses.isfinite().all() and (losses >= 0).all()):
            raise ValueError(f"expected frames [N, {FEATURES}] and losses [N] from 0 up; found {list(frames.shape)}, {list(losses.shape)}")
        self.frames, self.losses = frames.to(self.frames).clone(), losses.to(self.losses).clone()
