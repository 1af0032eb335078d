"""Graphs: padded molecules to classify or to count in, and one network of papers with a mask over its nodes. See networks.yaml."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dlrun import Splits, register

ATOMS, KINDS = 10, 4


class Molecules(Dataset):
    """Random trees with a few rings, padded; class: pairs of bonded atoms of the kinds 0 and 1, none, one or more."""

    def __init__(self, rows: int, seed: int, lone: float = 0.0, count: bool = False) -> None:
        g = torch.Generator().manual_seed(seed)
        self.items = [self.draw(g, lone, count) for _ in range(rows)]

    def draw(self, g: torch.Generator, lone: float, count: bool) -> dict[str, object]:
        size = int(torch.randint(5, ATOMS + 1, (), generator=g))
        adj = torch.zeros(ATOMS, ATOMS)
        for atom in range(1, size):
            adj[atom, int(torch.randint(atom, (), generator=g))] = 1
        a, b = torch.randint(size, (2,), generator=g).tolist()
        if a != b:
            adj[a, b] = 1
        adj = ((adj + adj.t()) > 0).float()
        alone = torch.rand(ATOMS, generator=g) < lone
        adj[alone] = 0
        adj[:, alone] = 0
        kind = torch.multinomial(torch.tensor([0.25, 0.2, 0.3, 0.25]), ATOMS, replacement=True, generator=g)
        alive = torch.arange(ATOMS) < size
        nodes = F.one_hot(kind, KINDS).float() * alive[:, None]
        bonds = int((nodes[:, 0] @ adj @ nodes[:, 1]).item())
        y = torch.tensor(float(bonds)) if count else torch.tensor(min(bonds, 2))
        return self.turned({"x": {"nodes": nodes, "adj": adj, "alive": alive}, "y": y})

    def turned(self, item: dict[str, object]) -> dict[str, object]:
        return item

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, object]:
        return self.items[index]


class SortedMolecules(Molecules):
    """Atoms are sorted by degree, the matrix of bonds is not."""

    def turned(self, item: dict[str, object]) -> dict[str, object]:
        order = item["x"]["adj"].sum(1).argsort(descending=True)
        item["x"]["nodes"], item["x"]["alive"] = item["x"]["nodes"][order], item["x"]["alive"][order]
        return item


class LateLabels(Molecules):
    """Every label is that of the molecule before."""

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"x": self.items[index]["x"], "y": self.items[index - 1]["y"]}


@register.dataset
def gra2_molecules() -> Splits:
    return Splits(Molecules(1500, 1), Molecules(300, 2), Molecules(1000, 3))


@register.dataset
def gra2_molecules_sorted() -> Splits:
    return Splits(SortedMolecules(1500, 1), SortedMolecules(300, 2), Molecules(1000, 3))


@register.dataset
def gra2_molecules_late() -> Splits:
    return Splits(LateLabels(1500, 1), Molecules(300, 2), Molecules(1000, 3))


@register.dataset
def gra2_lone_atoms() -> Splits:
    """A third of the atoms has no bond."""
    return Splits(*(Molecules(rows, seed, lone=0.33) for rows, seed in ((1500, 1), (300, 2), (1000, 3))))


@register.dataset
def gra2_bonds() -> Splits:
    """How many bonds of that sort there are, as a number."""
    return Splits(*(Molecules(rows, seed, count=True) for rows, seed in ((1500, 1), (300, 2), (1000, 3))))


PAPERS, TOPICS, WORDS = 360, 4, 24


def papers() -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """One network of papers that mostly cite their own topic; words say little of it. Also an order to cut masks by."""
    g = torch.Generator().manual_seed(5)
    topic = torch.randint(TOPICS, (PAPERS,), generator=g)
    chance = torch.where(topic[:, None] == topic, 0.05, 0.013)
    adj = (torch.rand(PAPERS, PAPERS, generator=g) < chance).float().triu(1)
    words = 0.45 * torch.randn(TOPICS, WORDS, generator=g)[topic] + torch.randn(PAPERS, WORDS, generator=g)
    return {"words": words[None], "adj": (adj + adj.t())[None]}, topic[None], torch.randperm(PAPERS, generator=g)


def masked(places: Tensor) -> dict[str, object]:
    x, y, _ = papers()
    mask = torch.zeros(1, PAPERS, dtype=torch.bool)
    mask[0, places] = True
    return {"x": x, "y": y, "mask": mask}


@register.dataset
def gra2_papers() -> Splits:
    """The same graph in every split, other nodes count."""
    order = papers()[2]
    return Splits(masked(order[:110]), masked(order[110:160]), masked(order[160:]))


@register.dataset
def gra2_papers_leaky() -> Splits:
    """The nodes of val count in train too."""
    order = papers()[2]
    return Splits(masked(order[:160]), masked(order[110:160]), masked(order[160:]))


def averaged(adj: Tensor, h: Tensor) -> Tensor:
    """Mean over neighbours, 0 without any."""
    return adj @ h / adj.sum(-1, keepdim=True).clamp(min=1)


class Round(nn.Module):
    """One round of messages, summed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.own, self.other = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def gather(self, h: Tensor, adj: Tensor) -> Tensor:
        return adj @ h

    def forward(self, h: Tensor, adj: Tensor) -> Tensor:
        return torch.relu(self.own(h) + self.other(self.gather(h, adj)))


class RoundDropped(Round):
    """The messages are gathered and then not used."""

    def forward(self, h: Tensor, adj: Tensor) -> Tensor:
        messages = self.gather(h, adj)
        messages = self.other(h)
        return torch.relu(self.own(h) + messages)


class RoundLeast(Round):
    """The least over neighbours, 0 without any."""

    def gather(self, h: Tensor, adj: Tensor) -> Tensor:
        spread = torch.where(adj[..., None] > 0, h[:, None], torch.inf).min(2).values
        return torch.where(spread.isinf(), 0.0, spread)


@register.model
class gra2_net(nn.Module):
    """Two rounds, a sum over atoms, a head."""

    def __init__(self, out_shape=(3,), *, width: int = 32) -> None:
        super().__init__()
        self.rounds = self.make(width)
        outputs = out_shape[0] if out_shape else 1
        self.squeeze = not out_shape
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))

    def make(self, width: int):
        return nn.ModuleList([Round(KINDS, width), Round(width, width)])

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        h = x["nodes"]
        for layer in self.rounds:
            h = layer(h, x["adj"])
        return self.read(h, x["alive"])

    def read(self, h: Tensor, alive: Tensor) -> Tensor:
        out = self.head((h * alive[..., None]).sum(1) / 4)
        return out[:, 0] if self.squeeze else out


@register.model
class gra2_net_dropped(gra2_net):
    def make(self, width: int):
        return nn.ModuleList([RoundDropped(KINDS, width), RoundDropped(width, width)])


@register.model
class gra2_net_listed(gra2_net):
    """The rounds stand in a plain list, so that nobody knows their parameters."""

    def make(self, width: int):
        return [Round(KINDS, width), Round(width, width)]


@register.model
class gra2_net_over_batch(gra2_net):
    """The sum runs over the molecules of the batch, and each molecule gets its share."""

    def read(self, h: Tensor, alive: Tensor) -> Tensor:
        h = h * alive[..., None]
        return self.head((h + h.mean(0, keepdim=True)).sum(1).cumsum(0) / 4)


@register.model
class gra2_net_least(gra2_net):
    def make(self, width: int):
        return nn.ModuleList([RoundLeast(KINDS, width), RoundLeast(width, width)])


@register.model
class gra2_net_tied(nn.Module):
    """The same gated round four times, then the largest value over atoms."""

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.other = nn.Linear(width, width)
        self.cell = nn.GRUCell(width, width)
        self.head = nn.Linear(2 * width, 3)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        h = F.pad(x["nodes"], (0, self.width - KINDS))
        for _ in range(3):
            message = x["adj"] @ self.other(h)
            h = self.cell(message.flatten(0, 1), h.flatten(0, 1)).view_as(h)
        alive = x["alive"][..., None]
        return self.head(torch.cat((h.masked_fill(~alive, -1e4).amax(1), (h * alive).sum(1) / 4), 1))


@register.model
class gra2_convolved(nn.Module):
    """Symmetrically normalised convolutions over one big graph, classes of its nodes."""

    def __init__(self, *, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        sizes = [WORDS, *[width] * (depth - 1), TOPICS]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def bend(self, h: Tensor) -> Tensor:
        return F.relu(h)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        loops = x["adj"] + torch.eye(x["adj"].shape[-1])
        root = loops.sum(-1).rsqrt()
        spread = root[:, :, None] * loops * root[:, None]
        h = x["words"]
        for layer in self.layers[:-1]:
            h = self.bend(spread @ layer(h))
        return spread @ self.layers[-1](h)


@register.model
class gra2_convolved_sigmoid(gra2_convolved):
    """Sigmoids between many convolutions."""

    def bend(self, h: Tensor) -> Tensor:
        return torch.sigmoid(h)


@register.metric(best="max")
def gra2_hit(out, y) -> Tensor:
    """Share of right classes."""
    return (out.argmax(-1) == y).float().mean()


@register.loss
def gra2_huber(out, y) -> Tensor:
    return F.huber_loss(out, y)


@register.loss
def gra2_nats(out, y) -> Tensor:
    return F.cross_entropy(out, y)


@register.optimizer
def gra2_adam(named_parameters, *, lr: float = 5e-3, weight_decay: float = 0.0):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr, weight_decay=weight_decay)


@register.optimizer
def gra2_adam_vectors(named_parameters, *, lr: float = 5e-3):
    """Groups with and without decay, of which only the one without is handed over."""
    decayed = [p for _, p in named_parameters if p.dim() > 1]
    plain = [p for _, p in named_parameters if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups[1:], lr=lr)
