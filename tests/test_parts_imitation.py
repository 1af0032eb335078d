"""Imitation while playing: the ball against one moved frame by frame, the expert, draws and weights against their formulas, the memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from parts import options, task
from torch import Tensor, nn

from dlrun.batch import Batch
from dlrun.datasets.pong import pong
from dlrun.errors import UsageError
from dlrun.functional.pong import FLIGHT, SERVE, SPEED, STAY, balls, expert, fold, play
from dlrun.noise import Noise
from dlrun.types import DataSpec, Networks

HALF = 0.1
SPEC = DataSpec(in_shape=(4,), out_shape=(4,))


def serves(rows: int = 500) -> Tensor:
    found: Tensor = pong(**options("dataset", "pong", n=rows)).train["x"].double()
    return found


def made(**changed: Any) -> Any:
    return task("imitation", SPEC, None, **changed)


def nets() -> Networks:
    torch.manual_seed(0)
    return Networks({"model": nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()})


def by_expert(frame: Tensor) -> Tensor:
    return expert(frame, HALF)


def still(frame: Tensor) -> Tensor:
    return torch.full((len(frame),), STAY)


def test_rallies_are_uniform_in_their_ranges() -> None:
    splits = pong(**options("dataset", "pong", n=4000, rallies=30))
    x = splits.train["x"]
    assert x.shape == (4000, 4) and splits.val["x"].shape == splits.test["x"].shape == (30, 4) and x.dtype == torch.float32
    for column, (low, high) in zip(x.T, SERVE, strict=True):
        assert low <= float(column.min()) and float(column.max()) <= high
        assert float(column.mean()) == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
        assert float(column.std()) == pytest.approx((high - low) / 12**0.5, rel=0.05)


def test_the_ball_is_reflected() -> None:
    """A path that leaves 0..1 is mirrored at the wall; in closed form it is where a ball is that moves and bounces frame by frame."""
    places = torch.tensor([-0.25, 0.0, 0.3, 1.0, 1.25, 2.5, -1.75], dtype=torch.float64)
    assert fold(places).tolist() == pytest.approx([0.25, 0.0, 0.3, 1.0, 0.75, 0.5, 0.25])
    rows = serves(100)
    for serve, path in zip(rows.tolist(), balls(rows), strict=True):
        y, slope = serve[0], serve[1]
        for frame, ball in enumerate(path.tolist()):
            if frame == FLIGHT:
                slope = serve[2]
            far = 1 - abs(1 - frame / FLIGHT)
            assert ball == pytest.approx([far, y, 1.0 if frame < FLIGHT else -1.0, slope], abs=1e-9)
            y += slope / FLIGHT
            if not 0 <= y <= 1:
                y, slope = (-y if y < 0 else 2 - y), -slope


def test_a_player_who_stays_hits_what_comes_to_him() -> None:
    rows = serves()
    frames, hits = play(rows, still, HALF)
    landed = balls(rows)[:, -1, 1]
    assert torch.equal(hits, (landed - rows[:, 3]).abs() <= HALF) and 0.1 < float(hits.double().mean()) < 0.3
    assert torch.allclose(frames[..., 4], (2 * rows[:, 3:] - 1).expand(-1, 2 * FLIGHT))


def test_the_paddle_moves_as_told_and_stops_at_the_walls() -> None:
    frames, _ = play(serves(), lambda frame: torch.full((len(frame),), 2), HALF)
    start = (serves()[:, 3:] + SPEED * torch.arange(2 * FLIGHT, dtype=torch.float64)).clamp(0, 1)
    assert torch.allclose(frames[..., 4], 2 * start - 1)


def test_the_expert_never_misses_and_seldom_moves() -> None:
    frames, hits = play(serves(5000), by_expert, HALF)
    moves = by_expert(frames)
    assert hits.all()
    assert (moves[:, :FLIGHT] == STAY).all()  # the ball flies out
    assert 0.03 < float((moves != STAY).double().mean()) < 0.1
    assert (moves[:, FLIGHT + 10 :] == STAY).all()  # in its place by half of the flight back
    assert not play(serves(5000), lambda frame: expert(frame, 0.01), 0.01)[1].all()  # a short paddle steps over the place


def remembered(losses: list[float], **changed: Any) -> Any:
    """A task that remembers so many frames, with these losses."""
    one = made(replay=4000, **changed)
    one.frames = play(serves(1), by_expert, HALF)[0][0, -len(losses) :].float()
    one.losses = torch.tensor(losses)
    return one


LOSSES = [0.0, 0.05, 0.3, 1.0, 4.0]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_frames_are_drawn_as_often_as_their_losses_say(alpha: float) -> None:
    one = remembered(LOSSES, alpha=alpha)
    batch = one.prepare(Batch({"x": serves(5)}), Noise(0, 1))
    shares = torch.bincount(batch["place"].flatten(), minlength=5) / 20000
    p = (torch.tensor(LOSSES) + 0.01) ** alpha
    known = p / p.sum()
    assert ((shares - known).abs() <= 5 * (known * (1 - known) / 20000).sqrt()).all()
    assert torch.equal(batch["x"].float(), one.frames[batch["place"]]) and torch.equal(batch["y"], by_expert(batch["x"]))


def test_weights_make_the_gradient_that_of_equal_draws() -> None:
    """Summed over memory, P(i) x weight x gradient is the gradient of the mean loss with beta 1; with beta 0 it is another."""
    network = nets()
    parameters = list(network.model.parameters())
    p = (torch.tensor(LOSSES).double() + 0.01) / (sum(LOSSES) + 0.05)
    for beta in (1.0, 0.0):
        one = remembered(LOSSES, alpha=1.0, beta=beta)
        drawn = one.prepare(Batch({"x": serves(5)}), Noise(0, 1))
        weight = torch.empty(5, dtype=torch.float64).scatter_(0, drawn["place"].flatten(), drawn["weight"].flatten())
        x = one.frames.double()[None]
        memory = Batch({"x": x, "y": by_expert(x), "weight": torch.ones(1, 5).double()})
        mean = torch.autograd.grad(one.loss(one.outputs(network, memory), memory), parameters)
        expected = memory.replace(weight=(5 * p * weight)[None])
        found = torch.autograd.grad(one.loss(one.outputs(network, expected), expected), parameters)
        same = [torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(mean, found, strict=True)]
        assert all(same) if beta else not any(same)


@pytest.mark.parametrize("changed", [{"alpha": 0.0, "beta": 1.0}, {"alpha": 1.0, "beta": 0.0}])
def test_equal_draws_and_no_correction_weigh_exactly_1(changed: dict[str, float]) -> None:
    assert (remembered(LOSSES, **changed).prepare(Batch({"x": serves(5)}), Noise(0, 1))["weight"] == 1).all()


@pytest.mark.parametrize("expert_plays", [False, True])
def test_a_step_remembers_the_frames_that_were_played(expert_plays: bool) -> None:
    """The first frames are the expert's; then those of the own play, or with `expert_plays` the expert's again, each with its loss."""
    one, network, rows = made(replay=7, expert_plays=expert_plays), nets(), serves(6)
    first = one.prepare(Batch({"x": rows}), Noise(0, 0))
    taught = play(rows, by_expert, HALF)[0]
    assert torch.equal(first["x"], taught.gather(1, first["place"][..., None].expand(-1, -1, 5))) and (first["weight"] == 1).all()
    one.after_step(network, [first[:4], first[4:]])
    own = play(rows, lambda frame: network.model(frame).argmax(-1), HALF)[0]
    assert torch.equal(one.frames, (taught if expert_plays else own).flatten(0, 1)) and not torch.equal(taught, own)
    assert torch.allclose(one.losses, loss_of(network, one.frames))


def loss_of(network: Networks, frames: Tensor) -> Tensor:
    return -network.model(frames).log_softmax(-1).gather(1, by_expert(frames)[:, None]).detach()[:, 0]


def test_a_drawn_frame_is_known_by_its_new_loss() -> None:
    one, network = made(replay=9, alpha=1.0), nets()
    one.after_step(network, [one.prepare(Batch({"x": serves(2)}), Noise(0, 0))])
    before = one.losses.clone()
    with torch.no_grad():
        next(iter(network.model.parameters())).mul_(-2)
    batch = one.prepare(Batch({"x": serves(2)}), Noise(0, 1))
    one.after_step(network, [batch])
    drawn = torch.zeros(160, dtype=torch.bool).index_fill_(0, batch["place"].flatten(), True)
    drawn[80:] = True  # played by now
    known = loss_of(network, one.frames)
    assert len(one.losses) == 160 and torch.allclose(one.losses[drawn], known[drawn])
    assert torch.equal(one.losses[~drawn], before[~drawn[:80]]) and not torch.allclose(one.losses[~drawn], known[~drawn])


@torch.no_grad()
def test_metrics_are_those_of_the_own_play() -> None:
    one, network, rows = made(), nets(), serves(50)
    found = {name: mean.value() for name, mean in one.evaluate(network, one.prepare(Batch({"x": rows}), Noise(0, 0))).items()}
    frames, hits = play(rows, lambda frame: network.model(frame).argmax(-1), HALF)
    frames = frames.flatten(0, 1)
    assert found["hit_rate"] == pytest.approx(float(hits.double().mean())) and found["expert_hit_rate"] == 1
    assert found["agreement"] == pytest.approx(float((network.model(frames).argmax(-1) == by_expert(frames)).double().mean()))
    assert found["loss"] == pytest.approx(float(loss_of(network, frames).mean()))


def test_what_is_no_rally_and_no_memory_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rows have shape \[64\], expected \[4\], rallies: dataset=pong"):
        made().networks(DataSpec(in_shape=(64,)))
    whole = remembered(LOSSES).state_dict()
    for broken in ({"losses": torch.zeros(4)}, {"frames": torch.zeros(5, 4)}, {"losses": torch.tensor([1.0, 1, 1, 1, float("nan")])}):
        with pytest.raises(ValueError, match=r"expected frames \[N, 5\] and losses \[N\]"):
            made().load_state_dict(whole | broken)
    again = made()
    again.load_state_dict(whole)
    assert torch.equal(again.frames, whole["frames"]) and torch.equal(again.losses, whole["losses"])
