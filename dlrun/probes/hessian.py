"""Curvature of the loss at the weights a run ended with: largest eigenvalues of its Hessian, trace, and how much of it is flat.

Source: Ghorbani, Krishnan, Xiao 2019, "An Investigation into Neural Net Optimization via Hessian Eigenvalue Density", section 2.1 and
appendix A (stochastic Lanczos quadrature); Pearlmutter 1994, "Fast Exact Multiplication by the Hessian"; trace: Hutchinson 1990; what
is counted as flat: Sagun et al. 2018, "Empirical Analysis of the Hessian of Over-Parametrized Neural Networks", section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dlrun.noise import Noise
from dlrun.probes._double import every_derivative, gradient, trainable
from dlrun.probes._rows import loss_of, loss_task
from dlrun.ranges import Count, Index, Positive
from dlrun.trained import Trained
from dlrun.types import Look, double

FLAT, OUTLYING = 1e-3, 0.1
"""Shares of the largest absolute eigenvalue: below the first an eigenvalue counts as zero, above the second as an outlier."""
QUADRATURE = 64
"""Lanczos steps for each random vector of the quadrature."""
EXHAUSTED = 1e-10
"""A residual this much smaller than the matrix is rounding: there are no other eigenvalues to be found from that start."""
Product = Callable[[Tensor], Tensor]


class Spectrum(NamedTuple):
    """Eigenvalues and the share of all that each stands for (equal ones where they are exact), ascending; and the trace."""

    values: Tensor
    shares: Tensor
    trace: float


def hessian(
    run: Trained,
    noise: Noise,
    *,
    split: Literal["train", "val", "test"],
    rows: Count | None,
    exact_below: Index,
    lanczos_steps: Count,
    draws: Count,
    top: Count,
    tolerance: Positive,
) -> tuple[dict[str, float], dict[str, Look]]:
    """eigenvalue_1 .. eigenvalue_<top>, the largest; smallest; trace; flat_share, of eigenvalues below 1e-3 of the largest absolute one;
    negative_share, of those below -1e-3 of it; parameters; exact (1 or 0), and where it is 1 outliers, how many lie above 0.1 of it.

    Of the mean loss over the rows, by all trained weights, in eval mode. With at most `exact_below` weights every eigenvalue is computed;
    else the largest and the smallest by Lanczos until none is off by more than `tolerance` of the largest, and trace and shares from
    `draws` random vectors (Hutchinson; Lanczos quadrature). Raises ValueError where that takes more than `lanczos_steps` steps, or the loss
    has no second derivative.
    """
    product, size = hessian_product(run, split, rows)
    if size <= exact_below:
        matrix = torch.stack([product(row) for row in torch.eye(size, dtype=torch.float64)])
        values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
        found = Spectrum(values, torch.full_like(values, 1 / size), float(values.sum()))
        largest, smallest = values.flip(0)[:top], float(values[0])
    else:
        largest, smallest = _ends(product, size, min(top, size), lanczos_steps, tolerance, noise.generator("ends"))
        found = _quadrature(product, size, draws, noise.generator("draws"))
    scale = max(float(largest[0]), -smallest, 1e-300)

    def share(which: Tensor) -> float:
        return float(found.shares[which].sum() / found.shares.sum())

    numbers: dict[str, float] = {f"eigenvalue_{i}": float(value) for i, value in enumerate(largest, 1)}
    numbers |= {
        "smallest": smallest,
        "trace": found.trace,
        "flat_share": share(found.values.abs() < FLAT * scale),
        "negative_share": share(found.values <= -FLAT * scale),
        **({"outliers": int((found.values > OUTLYING * scale).sum())} if size <= exact_below else {}),
        "parameters": size,
        "exact": int(size <= exact_below),
    }
    curve = {"": (found.shares.cumsum(0), found.values), "xlabel": "share of eigenvalues at most this large", "ylabel": "eigenvalue"}
    return numbers, {"hessian": Look("lines", curve, f"spectrum of the Hessian, {size} weights")}


def hessian_product(run: Trained, split: str, rows: int | None) -> tuple[Product, int]:
    """(v -> H v, both float64 [P] on the CPU; P) of the mean loss over rows of `split`. Raises ValueError without a second derivative."""
    task, weights = loss_task(run), trainable(run)
    gradients, counts = [], []
    with every_derivative():
        for batch in run.prepared(split, rows):
            loss = loss_of(task, task.outputs(run.nets, batch), batch)
            try:
                gradients.append(gradient(loss, weights, again=True))
            except RuntimeError as error:
                raise ValueError(f"this network's loss cannot be derived twice here ({str(error).splitlines()[0]})") from error
            counts.append(float(double(task.count(batch))))
    shares = [count / sum(counts) for count in counts]

    def product(v: Tensor) -> Tensor:
        there = v.to(weights[0].device, weights[0].dtype)
        parts = [share * gradient(pull @ there, weights).double().cpu() for share, pull in zip(shares, gradients)]
        return torch.stack(parts).sum(0)

    return product, sum(weight.numel() for weight in weights)


def lanczos(product: Product, start: Tensor, steps: int) -> Iterator[tuple[Tensor, float]]:
    """After each step (the tridiagonal matrix [m, m], length of the residual); ends early where the space is exhausted.

    Every new vector is made orthogonal to all before it, twice: without, eigenvalues would appear again and again.
    """
    basis = [start / start.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, len(start))):
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        known = torch.stack(basis)
        for _ in range(2):
            image = image - known.T @ (known @ image)
        rest = float(image.norm())
        T = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        if beside:
            off = torch.tensor(beside, dtype=torch.float64)
            T += torch.diag(off, 1) + torch.diag(off, -1)
        yield T, rest
        if rest <= EXHAUSTED * (1e-300 + float(T.abs().max())):
            return
        beside.append(rest)
        basis.append(image / rest)


def _ends(product: Product, size: int, top: int, steps: int, tolerance: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """(the `top` largest eigenvalues, descending; the smallest); ValueError where `steps` steps do not suffice."""
    off = float("inf")
    for T, rest in lanczos(product, torch.randn(size, generator=generator, dtype=torch.float64), steps):
        values, vectors = torch.linalg.eigh(T)
        errors = rest * vectors[-1].abs()  # of each Ritz value, at most
        off = float(torch.cat((errors[-top:], errors[:1])).max() / values.abs().max().clamp(min=1e-300))
        if off <= (tolerance if len(values) > top else EXHAUSTED):
            return values.flip(0)[:top], float(values[0])
    raise ValueError(
        f"{top} largest eigenvalues are still off by {off:.1g} of the largest after {steps} Lanczos steps: say lanczos_steps={2 * steps}"
    )


def _quadrature(product: Product, size: int, draws: int, generator: torch.Generator) -> Spectrum:
    """The spectrum as nodes and shares, and the trace, each a mean over vectors of random signs."""
    nodes, shares, traces = [], [], []
    for _ in range(draws):
        signs = torch.randint(0, 2, (size,), generator=generator).double() * 2 - 1
        *_, (T, _) = lanczos(product, signs, QUADRATURE)
        values, vectors = torch.linalg.eigh(T)
        nodes.append(values)
        shares.append(vectors[0].square() / draws)
        traces.append(float(T[0, 0]) * size)
    values, order = torch.cat(nodes).sort()
    return Spectrum(values, torch.cat(shares)[order], sum(traces) / draws)
