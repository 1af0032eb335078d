"""Graphs, padded to one size: features [B, N, F] and adjacency [B, N, N]. See graph.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrun import DataSpec, Splits, register

NODES, FEATURES = 12, 4


def draw(rows: int, seed: int, whole: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Random graphs of 6 to 12 nodes: (features, adjacency, which nodes exist); one feature of a node tells its group, noisily."""
    source = torch.Generator().manual_seed(seed)
    size = torch.full((rows,), NODES) if whole else torch.randint(6, NODES + 1, (rows,), generator=source)
    there = torch.arange(NODES) < size[:, None]
    group = torch.randint(2, (rows, NODES), generator=source)
    alike = group[:, :, None] == group[:, None, :]
    edge = torch.rand(rows, NODES, NODES, generator=source).triu(1) > torch.where(alike, 0.3, 0.9)
    edge = (edge.triu(1) | edge.triu(1).transpose(1, 2)) & there[:, :, None] & there[:, None, :]
    x = torch.randn(rows, NODES, FEATURES, generator=source)
    x[..., 0] = x[..., 0] * 1.2 + 2.0 * group - 1
    return torch.where(there[..., None], x, 0.0), edge.float(), torch.where(there, group, -100)


def averaged(edge: Tensor, whole: bool = False) -> Tensor:
    """Each node and its neighbours in equal shares."""
    edge = edge + torch.eye(NODES)
    degree = edge.sum(2, keepdim=True)
    return (edge.long() // degree.long()).float() if whole else edge / degree


SPEC = DataSpec((NODES, FEATURES), (NODES, 2), "graph", classes=2)


@register.dataset
def gra_groups() -> Splits:
    """The group of each node is asked for; nodes that do not exist do not count."""

    def rows(count: int, seed: int):
        x, edge, group = draw(count, seed)
        return {"x": {"nodes": x, "edges": averaged(edge)}, "y": group}

    return Splits(rows(500, 1), rows(150, 2), rows(500, 3), spec=SPEC)


@register.dataset
def gra_groups_divided() -> Splits:
    """The shares of neighbours are divided as integers: only nodes without a neighbour keep one, their own."""

    def rows(count: int, seed: int):
        x, edge, group = draw(count, seed)
        return {"x": {"nodes": x, "edges": averaged(edge, whole=True)}, "y": group}

    return Splits(rows(500, 1), rows(150, 2), rows(500, 3), spec=SPEC)


@register.dataset
def gra_density() -> Splits:
    """How strongly the nodes of a graph hang together, a number a graph."""

    def rows(count: int, seed: int):
        x, edge, group = draw(count, seed)
        there = group >= 0
        pull = (x[..., :1] * (averaged(edge) @ x[..., :1]))[..., 0]
        y = (pull * there).sum(1) / there.sum(1) - 1
        return {"x": {"nodes": x, "edges": averaged(edge), "there": there}, "y": y}

    return Splits(rows(800, 1), rows(200, 2), rows(500, 3), spec=DataSpec((NODES, FEATURES), (), "graph"))


@register.model
class gra_net(nn.Module):
    """Two rounds of messages, then a label for each node."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(FEATURES, 32), nn.Linear(32, 32), nn.Linear(32, 2)

    def hidden(self, x: dict[str, Tensor]) -> Tensor:
        return F.relu(x["edges"] @ self.second(F.relu(x["edges"] @ self.first(x["nodes"]))))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.head(self.hidden(x))


@register.model
class gra_net_mixed(gra_net):
    """The messages of a node are weighed by a softmax over the graphs of the batch."""

    def hidden(self, x: dict[str, Tensor]) -> Tensor:
        weighed = (x["edges"] * 4).softmax(0) * x["edges"].shape[0] / NODES
        return F.relu(weighed @ self.second(F.relu(weighed @ self.first(x["nodes"]))))


@register.model
class gra_net_pooled(nn.Module):
    """Two rounds of messages, the mean over nodes that exist, one number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 48), nn.Linear(48 + FEATURES, 48)
        self.head = nn.Sequential(nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 1))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        near = F.gelu(self.first(x["edges"] @ x["nodes"]))
        hidden = F.gelu(self.second(torch.cat((near, x["nodes"]), 2)))
        there = x["there"].float()[..., None]
        return self.head((hidden * there).sum(1) / there.sum(1))[:, 0]


@register.loss
def gra_loss(out, y) -> Tensor:
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


@register.loss
def gra_loss_square(out, y) -> Tensor:
    return F.mse_loss(out, y)


@register.metric(best="max", batches=False)
def gra_right(out, y):
    """Share of nodes that exist whose group is told."""
    return (out.argmax(2) == y)[y >= 0].float().mean()


@register.optimizer
def gra_adam(named_parameters, *, lr: float = 5e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)
