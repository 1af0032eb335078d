"""Latents of an autoencoder: how many are active, and what the decoder makes of one row as each latent in turn is varied.

Source: Burda, Grosse, Salakhutdinov 2016, "Importance Weighted Autoencoders", section 4.1 (active units); Higgins et al. 2017, "beta-VAE",
section 4.1 (latent traversal).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.probes._rows import loss_task
from dlrun.ranges import Count, Index, Positive
from dlrun.task import LossTask
from dlrun.trained import Trained
from dlrun.types import Look

MOST_TRAVERSED = 8
"""Latents that are drawn: those whose means vary most."""


@torch.no_grad()
def latent_traversal(
    run: Trained,
    *,
    threshold: Positive,
    span: Positive,
    points: Count,
    row: Index,
    split: Literal["train", "val", "test"],
    rows: Count | None,
) -> tuple[dict[str, float], dict[str, Look]]:
    """latents; active_units, those whose posterior mean has a variance over rows above `threshold`; active_share; largest_variance,
    smallest_variance; kl, the mean of KL(N(mu, sigma^2) || N(0, 1)) in nats a row, of a variational one.

    Drawn are the variances, and where rows are images and there is a decoder the traversal: a line for each of the most active latents,
    from -span to span (in deviations of the prior; of an autoencoder without one, about the mean in deviations over the data), the other
    latents being those of row `row`. Raises ValueError for a run that has no latents.
    """
    task = loss_task(run)
    found = [_latents(run, task, batch) for batch in run.prepared(split, rows)]
    mu = torch.cat([mean for mean, _ in found]).double()
    variance = mu.var(0, correction=0)
    active = int((variance > threshold).sum())
    numbers: dict[str, float] = {
        "latents": mu.shape[1],
        "active_units": active,
        "active_share": active / mu.shape[1],
        "largest_variance": float(variance.max()),
        "smallest_variance": float(variance.min()),
        "rows": len(mu),
    }
    is_variational = found[0][1] is not None
    if is_variational:
        logvar = torch.cat([spread for _, spread in found if spread is not None]).double()
        numbers["kl"] = float(0.5 * (logvar.exp() + mu.square() - 1 - logvar).sum(1).mean())
    order = variance.argsort(descending=True)
    shown = {"variance over rows": variance[order], "threshold": torch.full_like(variance, threshold)}
    looks = {"variances": Look("lines", {**shown, "xlabel": "latent, by variance", "ylabel": "variance of the posterior mean"}, "latents")}
    if "decoder" in run.networks:
        if row >= len(mu):
            raise ValueError(f"row={row}: {len(mu)} rows of {split} are looked at, from 0")
        units = order[:MOST_TRAVERSED]
        moved = mu.new_zeros(mu.shape[1]) if is_variational else mu.mean(0)
        spread = mu.new_ones(mu.shape[1]) if is_variational else variance.sqrt()
        steps = torch.linspace(-span, span, points, dtype=mu.dtype, device=mu.device)
        looks |= _grid(run, task, _lines(mu[row], units, moved[:, None] + spread[:, None] * steps), units, split, rows)
    return numbers, looks


def _latents(run: Trained, task: LossTask, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """(mean [B, L], log variance [B, L] or None where codes are numbers) of the rows' latents."""
    if "encoder" in run.networks and "decoder" in run.networks:
        size = int(torch.Size(task.networks(run.spec)["decoder"][0]).numel())
        out = run.networks["encoder"](batch["x"])
        if isinstance(out, tuple) and len(out) >= 2:
            return out[0].flatten(1), out[1].flatten(1)
        if isinstance(out, Tensor) and out[0].numel() == 2 * size:
            mean, spread = out.reshape(len(out), 2, size).unbind(1)
            return mean, spread
        if isinstance(out, Tensor) and out[0].numel() == size:
            return out.flatten(1), None
    else:
        out = task.outputs(run.nets, batch)
        if isinstance(out, tuple) and len(out) >= 3 and isinstance(out[1], Tensor) and out[1].dim() == 2 and out[1].shape == out[2].shape:
            return out[1], out[2]
    raise ValueError("needs latents: networks encoder and decoder, or one that returns (reconstruction, mu, logvar)")


def _lines(code: Tensor, units: Tensor, values: Tensor) -> Tensor:
    """`code` [L] again and again, [units, points, L], with one of `units` in turn moved through its `values` [L, points]."""
    z = code.repeat(len(units), values.shape[1], 1)
    for line, unit in enumerate(units):
        z[line, :, unit] = values[unit]
    return z


def _grid(run: Trained, task: LossTask, z: Tensor, units: Tensor, split: str, rows: int | None) -> dict[str, Look]:
    """What the decoder makes of latents [lines, points, L], side by side; nothing where rows are no images."""
    batch = next(iter(run.prepared(split, rows)))
    whole: Any = task.outputs(run.nets, batch)
    lines = []
    for line in z:
        made = run.networks["decoder"](line.to(batch["x"].dtype))
        lines.append(task.compared((made, *whole[1:]) if isinstance(whole, tuple) else made, batch)[0])
    if not isinstance(lines[0], Tensor) or lines[0].dim() != 4 or lines[0].shape[1] not in (1, 3):
        return {}
    strips = torch.stack([_strip(line) for line in lines])
    captions = [f"latent {int(unit)}: {float(line[0, unit]):.3g} .. {float(line[-1, unit]):.3g}" for line, unit in zip(z, units)]
    data = {"images": strips, "captions": captions, "across": 1, "inches": 0.6 * z.shape[1]}
    return {"latent_traversal": Look("images", data, "what the decoder makes of a row as one latent is moved")}


def _strip(made: Tensor) -> Tensor:
    """Images [points, C, H, W] side by side, a bright line between: [C, H, points x (W + 1)]."""
    line = made.max().expand(len(made), *made.shape[1:3], 1)
    return torch.cat(list(torch.cat((made, line), 3)), 2)
