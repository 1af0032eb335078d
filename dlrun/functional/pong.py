"""Pong: a ball between two paddles, in closed form. A rally is one shot: out to the opponent, who returns it, and back to the player.

Source: Alcorn 1972, the game; motion between walls by the method of images: a path reflected at walls is a straight one, folded.
The court is 1 x 1: x is 0 at the player's line and 1 at the opponent's, y runs from wall to wall. A frame is one unit of time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FLIGHT = 20
"""Frames from one line to the other; a rally has 2 x FLIGHT."""
SPEED = 1 / 10
"""How far a move shifts the paddle: it can cross the court in half a flight."""
SERVE = ((0.0, 1.0), (-1.5, 1.5), (-1.5, 1.5), (0.0, 1.0))
"""Ranges of what makes a rally: the height of the serve, the slopes of the ball out and back in courts per flight, the paddle's place."""
FEATURES = 5
"""Numbers of a frame, what the player sees: the ball's x, y, direction and dy, and the paddle's place."""
MOVES, STAY = 3, 1
"""0 is towards y = 0, 1 none, 2 towards y = 1."""


def fold(path: Tensor) -> Tensor:
    """Where in 0..1 a point of the straight path lies after its reflections at 0 and 1."""
    return 1 - (1 - path.remainder(2)).abs()


def balls(serves: Tensor) -> Tensor:
    """serves [B, 4] -> the ball at every frame, [B, 2 FLIGHT + 1, 4].

    Of a ball: x, y, the direction of x (1 out, -1 back) and dy, its slope per flight at that moment. At the last one it has landed.
    """
    time = torch.arange(2 * FLIGHT + 1, device=serves.device, dtype=serves.dtype) / FLIGHT
    y, out, back, _ = serves[:, :, None].unbind(1)
    flying = time < 1
    path = torch.where(flying, y + out * time, fold(y + out) + back * (time - 1))
    dy = torch.where(flying, out, back) * (1 - 2 * (path.remainder(2) >= 1).to(path))
    x, direction = 1 - (1 - time).abs(), 2 * flying.to(path) - 1
    return torch.stack((x.expand_as(path), fold(path), direction.expand_as(path), dy), 2)


def expert(frames: Tensor, half: float) -> Tensor:
    """The right moves [...] at frames [..., 5]: towards where the ball will land; none if it flies out or lands on the middle half."""
    x, y, direction, dy, paddle = frames.unbind(-1)
    short = fold((y + 1) / 2 + dy * (x + 1) / 2) - (paddle + 1) / 2
    return torch.where((direction > 0) | (short.abs() <= half / 2), 0, short.sign()).long() + STAY


def play(serves: Tensor, player: Callable[[Tensor], Tensor], half: float) -> tuple[Tensor, Tensor]:
    """Rallies from serves [B, 4], by a player who gives moves [B] at frames [B, 5] -> (frames [B, 2 FLIGHT, 5], hits [B] bool).

    Places in a frame run from -1 to 1. A hit is a ball that lands within `half`, half the paddle's length, of its middle.
    """
    ball, paddle = balls(serves), 2 * serves[:, 3] - 1
    frames = torch.cat((2 * ball[..., :2] - 1, ball[..., 2:], torch.zeros_like(ball[..., :1])), 2)
    for frame, place in zip(frames[:, :-1].unbind(1), frames[..., 4].unbind(1), strict=False):
        place.copy_(paddle)
        paddle = paddle.add(player(frame) - STAY, alpha=2 * SPEED).clamp_(-1, 1)
    return frames[:, :-1], (paddle - frames[:, -1, 1]).abs() <= 2 * half
