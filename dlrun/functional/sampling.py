"""Drawing from a language model: each next token from the distribution that the tokens before it give.

Source: Bengio, Ducharme, Vincent, Jauvin 2003, "A Neural Probabilistic Language Model", section 2, eq. 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def continuation(logits: Callable[[Tensor], Tensor], prompt: Tensor, length: int, temperature: float) -> Tensor:
    """`length` tokens [B, length] that follow `prompt` [B, T], by logits([B, T]) -> [B, T, V] of always the last T tokens.

    `temperature` divides the logits; 0 takes the likeliest token. Draws come from torch's default generator of the device.
    """
    window, drawn = prompt, []
    for _ in range(length):
        last = logits(window)[:, -1].float()
        if temperature == 0:
            token = last.argmax(-1, keepdim=True)
        else:
            token = torch.multinomial((last / temperature).softmax(-1), 1)
        drawn.append(token)
        window = torch.cat((window[:, 1:], token), 1)
    return torch.cat(drawn, 1) if drawn else prompt[:, :0]
