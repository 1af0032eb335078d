"""Heat on small meshes, molecules-like rings and chains, one network of papers. See meshes.yaml."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from dlrun import Splits, register

NODES = 14


def heated(count, seed):
    """Nodes in a square, joined to near ones; some hold a given heat, the others take the mean of their neighbours, roughly."""
    rng = np.random.default_rng(seed)
    where = rng.uniform(0, 1, (count, NODES, 2))
    apart = np.linalg.norm(where[:, :, None] - where[:, None], axis=-1)
    near = np.sort(apart, axis=2)[:, :, 4:5]
    edge = ((apart <= near) | (apart <= near.transpose(0, 2, 1))).astype(np.float64)
    share = edge / edge.sum(2, keepdims=True)
    held = rng.random((count, NODES)) < 0.4
    given = np.where(held, rng.standard_normal((count, NODES)) * 1.5, 0.0)
    heat = given.copy()
    for _ in range(4):
        heat = np.where(held, given, (share @ heat[..., None])[..., 0])
    nodes = np.stack([given, held, where[..., 0] * 3 - 1.5, where[..., 1] * 3 - 1.5], 2)
    target = np.stack([heat * 2, ~held], 2)
    return nodes, share, target


def heat_rows(count, seed, apart=False):
    nodes, share, target = (torch.from_numpy(part.astype(np.float32)) for part in heated(count, seed))
    if apart:
        order = nodes[..., 2].argsort(dim=1)
        nodes = nodes.gather(1, order[..., None].expand_as(nodes))
    return {"x": (nodes, share), "y": target}


@register.dataset
def mes3_heat():
    return Splits(heat_rows(1500, 1), heat_rows(300, 2), heat_rows(1000, 3))


@register.dataset
def mes3_heat_sorted_apart():
    """Features of nodes are sorted by place, edges and targets are not."""
    return Splits(heat_rows(1500, 1, True), heat_rows(300, 2, True), heat_rows(1000, 3, True))


@register.dataset
def mes3_rings():
    """Does the graph hold a ring? Trees with or without one edge more, over a count of atoms' kinds that tells nothing."""

    def rows(count, seed):
        rng = np.random.default_rng(seed)
        adjacency, label = np.zeros((count, 10, 10), np.float32), rng.integers(0, 2, count)
        for i in range(count):
            for node in range(1, 10):
                other = rng.integers(max(0, node - 3), node)
                adjacency[i, node, other] = adjacency[i, other, node] = 1
            if label[i]:
                free = np.argwhere(np.triu(adjacency[i] == 0, 2))
                for a, b in free[rng.permutation(len(free))[:3]]:
                    adjacency[i, a, b] = adjacency[i, b, a] = 1
        atoms = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (count, 10))]
        charge = rng.standard_normal((count, 10, 1)).astype(np.float32)
        x = {"atoms": torch.from_numpy(np.concatenate([atoms, charge], 2)), "bonds": torch.from_numpy(adjacency)}
        return {"x": x, "y": torch.from_numpy(label)}

    return Splits(rows(1200, 4), rows(300, 5), rows(1000, 6))


@register.dataset
def mes3_papers():
    """One network of papers; the splits are the same graph and ask for different papers of it, others are -100."""
    count, fields = 900, 4
    rng = np.random.default_rng(8)
    field = rng.integers(0, fields, count)
    chance = np.where(field[:, None] == field[None], 0.03, 0.003)
    cites = np.triu(rng.random((count, count)) < chance, 1)
    links = torch.from_numpy((cites | cites.T | np.eye(count, dtype=bool)).astype(np.float32))
    degree = links.sum(1).rsqrt()
    links = degree[:, None] * links * degree
    centres = 0.35 * rng.standard_normal((fields, 20))
    words = torch.from_numpy((centres[field] + rng.standard_normal((count, 20))).astype(np.float32))
    part = torch.from_numpy(rng.choice(3, count, p=[0.3, 0.2, 0.5]))
    labels = torch.from_numpy(field)
    return Splits(*({"x": {"words": words[None], "links": links[None]}, "y": torch.where(part == k, labels, -100)[None]} for k in range(3)))


class Messages(nn.Module):
    def __init__(self, width, act):
        super().__init__()
        self.own, self.others, self.act = nn.Linear(width, width), nn.Linear(width, width), act

    def forward(self, h, share):
        return self.act(self.own(h) + torch.bmm(share, self.others(h)))


@register.model
class mes3_rounds(nn.Module):
    """Rounds of messages over the mesh, then one number a node."""

    def __init__(self, *, width: int = 48, rounds: int = 6):
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.rounds = nn.ModuleList(Messages(width, self.activation()) for _ in range(rounds))
        self.out = nn.Linear(width, 1)

    def activation(self):
        return nn.SiLU()

    def forward(self, x):
        nodes, share = x
        h = self.embed(nodes)
        for step in self.rounds:
            h = step(h, share)
        return self.out(h).squeeze(-1)


@register.model
class mes3_rounds_sigmoid(mes3_rounds):
    """A sigmoid after every round."""

    def activation(self):
        return nn.Sigmoid()


@register.model
class mes3_rounds_rewrapped(mes3_rounds):
    """Wraps what each round gives into a new tensor before it is handed on."""

    def forward(self, x):
        nodes, share = x
        h = self.embed(nodes)
        for step in self.rounds:
            h = torch.from_numpy(step(h, share).detach().numpy())
        return self.out(h).squeeze(-1)


@register.model
class mes3_gin(nn.Module):
    """Sums over neighbours, two rounds with batch norm, mean and maximum over the nodes."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(4, 32)
        self.one = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        self.two = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        self.norm = nn.BatchNorm1d(64)
        self.head = nn.Linear(64, 2)

    def forward(self, x):
        h, bonds = self.lift(x["atoms"]), x["bonds"]
        h = F.relu(self.one(h + bonds @ h))
        h = F.relu(self.two(h + bonds @ h))
        return self.head(self.norm(torch.cat([h.mean(1), h.amax(1)], 1)))


@register.model
class mes3_gcn(nn.Module):
    """The two layers of Kipf and Welling 2017."""

    def __init__(self):
        super().__init__()
        self.lin1, self.lin2, self.drop = nn.Linear(20, 16), nn.Linear(16, 4), nn.Dropout(0.5)

    def forward(self, x):
        h = torch.relu(x["links"] @ self.lin1(self.drop(x["words"])))
        return x["links"] @ self.lin2(self.drop(h))


@register.loss
def mes3_free_nodes(out, y):
    """Squared error over the nodes whose heat is not given."""
    heat, free = y[..., 0], y[..., 1] > 0.5
    return ((out - heat)[free] ** 2).mean()


@register.loss
def mes3_held_nodes(out, y):
    """The mask the other way round: over the nodes whose heat is given."""
    heat, free = y[..., 0], y[..., 1] > 0.5
    return ((out - heat)[~free] ** 2).mean()


@register.loss
def mes3_asked(out, y):
    return F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1), ignore_index=-100)
