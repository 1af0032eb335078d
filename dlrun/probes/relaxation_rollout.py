"""Roll-out of a learned Bellman-Ford step: the network's outputs become its inputs, round after round, beside the exact recursion.

Source: Bellman 1958, "On a Routing Problem", eq. 3; a network that is to do one step of it: Xu et al. 2020, "What Can Neural Networks
Reason About?", section 4.3; its error on larger graphs than trained on: Xu et al. 2021, "How Neural Networks Extrapolate: From Feedforward
to Graph Neural Networks", section 4. B graphs, N nodes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dlrun.functional.graphs import relax
from dlrun.probes._features import chosen
from dlrun.ranges import Count
from dlrun.trained import Trained
from dlrun.types import Look


@torch.no_grad()
def relaxation_rollout(
    run: Trained,
    *,
    network: str | None,
    rounds: Count,
    split: Literal["train", "val", "test"],
    rows: Count | None,
) -> tuple[dict[str, float], dict[str, Look]]:
    """error: sum of |estimate - distance| after `rounds` rounds over the sum of distances, of nodes reached by then; error_1, error_2 ...
    after each round; nodes of the largest graph; graphs.

    Round 0 is the source at 0 and all others at the value that the data has for nodes not reached yet. Raises ValueError for data
    of another target than `relaxation`, or where no node is reached.
    """
    options = run.config["dataset"]
    if options.get("target") != "relaxation":
        raise ValueError("needs a network trained for one round of Bellman and Ford: dataset=graphs dataset.target=relaxation")
    _, module = chosen(run, network)
    far = max(float(batch["x"]["nodes"][..., 0].max()) for batch in run.batches("train"))
    sums = torch.zeros(2, rounds, dtype=torch.float64)
    nodes = graphs = 0
    for batch in run.batches(split, rows):
        x, mask = batch["x"], batch["x"]["mask"]
        weights, now = x["adjacency"].double(), x["nodes"]
        exact = torch.where((now[..., 0] == 0) & mask, 0.0, far).double()
        estimate = exact.to(now.dtype)
        for number in range(rounds):
            exact = relax(weights, exact)
            estimate = module({**x, "nodes": torch.cat((estimate[..., None], now[..., 1:]), -1)})
            sums[:, number] += _off(estimate.double(), exact, mask & (exact < far)).cpu()
        nodes, graphs = max(nodes, int(mask.sum(1).max())), graphs + len(mask)
    if not bool((sums[1] > 0).all()):
        raise ValueError(f"no node of {split} is reached from its source")
    errors = (sums[0] / sums[1]).tolist()
    curve = Look("lines", {"error": [list(range(1, rounds + 1)), errors], "xlabel": "rounds", "ylabel": f"relative error, {split}"}, "")
    numbers = {f"error_{number}": error for number, error in enumerate(errors, 1)}
    return {"error": errors[-1], **numbers, "nodes": nodes, "graphs": graphs}, {"rollout": curve}


def _off(estimate: Tensor, exact: Tensor, reached: Tensor) -> Tensor:
    """(sum of errors' sizes, sum of distances) of reached nodes."""
    return torch.stack(((estimate - exact)[reached].abs().sum(), exact[reached].sum()))
