"""Keyed noise: every random number is a function of (seed, where it is used), never of what was drawn before it.

Before each micro-batch, evaluation batch and item of a user's dataset the generators of python, numpy and torch are seeded from a hash of
their place. So evaluation, checks, figures and the number of workers cannot shift the stream, and a checkpoint needs no generator state.
"""

from __future__ import annotations

import random
from hashlib import blake2b

import numpy as np
import torch


def hash32(*key: int | str) -> int:
    """A 32-bit hash of `key` (CPU generators of torch read 32 bits only); equal on every platform and in every process."""
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=4).digest(), "little")


def seed_generators(*key: int | str) -> None:
    """Seed python's, numpy's and torch's default generators with `hash32(*key)`.

    torch's generators are seeded one by one: `torch.manual_seed` does the same but costs 90 us instead of 1.
    """
    value = hash32(*key)
    random.seed(value)
    np.random.seed(value)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)


class Noise:
    """Where a batch stands: handed to `Task.prepare` and to augmentations, which draw from it and from nowhere else.

    `key` is (seed, step, micro-batch, rank, role). Draws from torch's default generators are equally repeatable, for they are seeded
    with the same key; `generator` gives a private stream that other draws cannot shift.
    """

    def __init__(self, *key: int | str) -> None:
        self.key = key

    def generator(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator of its own for the use `name`, on `device`."""
        return torch.Generator(device=device).manual_seed(hash32(*self.key, name))
