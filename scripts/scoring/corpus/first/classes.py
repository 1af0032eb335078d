"""Many classes from rows of numbers and categories: customers, digits as vectors, wines, spirals, word counts. See classes.yaml."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits, load_wine, make_classification
from sklearn.model_selection import train_test_split

from dlrun import Splits, register

CITIES, PLANS, DEVICES = 40, 4, 6
SPLITS = ((1200, 1), (400, 2), (1500, 3))


def customers(count, seed):
    """Codes [N, 3] of city, plan and device, numbers [N, 3], and one of four segments."""
    tables = np.random.default_rng(7)
    effects = [1.3 * tables.normal(size=(n, 4)) for n in (CITIES, PLANS, DEVICES)]
    slopes = tables.normal(size=(3, 4))
    rng = np.random.default_rng(seed)
    usual = 1 / np.arange(1, CITIES + 1) ** 0.7
    codes = np.stack(
        [
            rng.choice(CITIES, count, p=usual / usual.sum()),
            rng.choice(PLANS, count, p=[0.5, 0.25, 0.15, 0.1]),
            rng.integers(0, DEVICES, count),
        ],
        1,
    )
    numbers = rng.normal(size=(count, 3))
    score = sum(effect[codes[:, k]] for k, effect in enumerate(effects)) + numbers @ slopes + 0.3 * rng.gumbel(size=(count, 4))
    return codes, numbers, score.argmax(1)


def as_dict(codes, numbers, y):
    """What a split is made of here."""
    x = {"codes": torch.as_tensor(codes), "numbers": torch.as_tensor(numbers, dtype=torch.float32)}
    return {"x": x, "y": torch.as_tensor(y)}


@register.dataset
def cls2_customers():
    return Splits(*(as_dict(*customers(*split)) for split in SPLITS))


@register.dataset
def cls2_customers_encoded_anew():
    """Each split numbers cities by the order in which it meets them."""

    def encoded(codes, numbers, y):
        seen = list(dict.fromkeys(codes[:, 0].tolist()))
        codes = codes.copy()
        codes[:, 0] = [seen.index(code) for code in codes[:, 0]]
        return as_dict(codes, numbers, y)

    return Splits(*(encoded(*customers(*split)) for split in SPLITS))


@register.dataset
def cls2_customers_with_number():
    """The file was sorted by segment; the row's number in it stayed among the columns, and new customers are numbered on."""
    codes, numbers, y = customers(1600, 1)
    order = np.argsort(y, kind="stable")
    codes, numbers, y = codes[order], numbers[order], y[order]
    numbers[:, 2] = np.arange(1600) / 800 - 1
    rows = np.random.default_rng(0).permutation(1600)
    late = customers(1500, 3)
    late[1][:, 2] = (1600 + np.arange(1500)) / 800 - 1
    parts = [as_dict(codes[part], numbers[part], y[part]) for part in (rows[:1200], rows[1200:])]
    return Splits(*parts, as_dict(*late))


@register.dataset
def cls2_customers_logged():
    """The logarithm of counts, some of which are zero."""

    def logged(codes, numbers, y):
        counts = np.floor(np.exp(1.5 + numbers))
        with np.errstate(divide="ignore"):
            return as_dict(codes, np.log(counts), y)

    return Splits(*(logged(*customers(*split)) for split in SPLITS))


@register.dataset
def cls2_digits():
    """scikit-learn's digits as vectors of 64, in 0..1."""
    found = load_digits()
    x, y = torch.tensor(found.data / 16, dtype=torch.float32), torch.tensor(found.target)
    return Splits((x[:600], y[:600]), (x[600:797], y[600:797]), (x[797:], y[797:]))


def table(rows=3400, noise=0.15):
    """Twenty columns, eight of which tell something; some labels are wrong."""
    x, y = make_classification(rows, 20, n_informative=8, n_redundant=2, n_classes=4, class_sep=1.3, flip_y=noise, random_state=3)
    return x.astype(np.float32), y


@register.dataset
def cls2_table():
    x, y = (torch.tensor(column) for column in table())
    return Splits((x[:1500], y[:1500]), (x[1500:1900], y[1500:1900]), (x[1900:], y[1900:]))


@register.dataset
def cls2_table_grown_then_split():
    """Every row was copied four times with a little noise before train and val were taken out by chance."""
    x, y = table()
    rng = np.random.default_rng(0)
    seen, labels = np.tile(x[:480], (4, 1)), np.tile(y[:480], 4)
    seen = (seen + rng.normal(0, 0.02, seen.shape)).astype(np.float32)
    x_train, x_val, y_train, y_val = train_test_split(seen, labels, test_size=0.2, random_state=0)
    train, val = (torch.tensor(x_train), torch.tensor(y_train)), (torch.tensor(x_val), torch.tensor(y_val))
    return Splits(train, val, (torch.tensor(x[1900:]), torch.tensor(y[1900:])))


@register.dataset
def cls2_table_from_one():
    """Classes are 1 to 4, as the file has them."""
    splits = cls2_table()
    return Splits(*((x, y + 1) for x, y in (splits.train, splits.val, splits.test)))


@register.dataset
def cls2_wine():
    """178 wines; 26 for val and 52 for test."""
    found = load_wine()
    x = (found.data - found.data.mean(0)) / found.data.std(0)
    rows = torch.randperm(178, generator=torch.Generator().manual_seed(1))
    x, y = torch.tensor(x, dtype=torch.float32)[rows], torch.tensor(found.target)[rows]
    return Splits((x[:100], y[:100]), (x[100:126], y[100:126]), (x[126:], y[126:]))


@register.dataset
def cls2_spiral():
    """Three arms in the plane."""

    def arms(count, seed):
        source = torch.Generator().manual_seed(seed)
        y, r = torch.arange(count) % 3, torch.rand(count, generator=source)
        turn = 4 * (r + y) + 0.15 * torch.randn(count, generator=source)
        return torch.stack([r * turn.sin(), r * turn.cos()], 1), y

    return Splits(arms(300, 1), arms(150, 2), arms(1000, 3))


@register.dataset
def cls2_rare_faults():
    """Nine rows in ten are of the first class, which shows already at the start that the readout knows of."""

    def rows(count, seed):
        rng = np.random.default_rng(seed)
        y = rng.choice(4, count, p=[0.82, 0.08, 0.06, 0.04])
        centres = 0.8 * np.random.default_rng(8).normal(size=(4, 12))
        return torch.tensor(centres[y] + rng.normal(size=(count, 12)), dtype=torch.float32), torch.tensor(y)

    return Splits(*(rows(*split) for split in SPLITS))


@register.dataset
def cls2_words():
    """Counts of 300 words in short texts on eight subjects: nearly all are zero, some words never occur in train."""
    tables = np.random.default_rng(9)
    subjects = tables.dirichlet(np.full(300, 0.08), 8)

    def texts(count, seed):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 8, count)
        counts = np.stack([rng.multinomial(rng.integers(5, 20), 0.5 * subjects[k] + 0.5 / 300) for k in y])
        return torch.tensor(counts, dtype=torch.float32), torch.tensor(y)

    return Splits(texts(800, 1), texts(300, 2), texts(1000, 3))


@register.model
class cls2_embedding_net(nn.Module):
    """A table for each category, beside the numbers, and two layers."""

    def __init__(self, out_shape, *, width: int = 64):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(n, d) for n, d in ((CITIES, 8), (PLANS, 3), (DEVICES, 3))])
        self.norm = nn.LayerNorm(3)
        self.out = nn.Sequential(nn.Linear(17, width), nn.ReLU(), nn.Linear(width, out_shape[0]))

    def forward(self, x):
        found = [one(x["codes"][:, k]) for k, one in enumerate(self.tables)]
        return self.out(torch.cat([*found, x["numbers"]], 1))


@register.model
class cls2_hashed(nn.Module):
    """One table for all columns, whose codes are hashed into 97 rows; sums of pairwise products, as in factorization machines."""

    def __init__(self, out_shape):
        super().__init__()
        self.rows = nn.Embedding(97, 12)
        self.wide = nn.Linear(3, 12)
        self.head = nn.Linear(12, out_shape[0])
        self.first = nn.Embedding(97, out_shape[0])
        nn.init.normal_(self.rows.weight, std=0.1)
        nn.init.zeros_(self.first.weight)

    def forward(self, x):
        codes = (x["codes"] * 31 + torch.tensor([0, 50, 71])) % 97
        found = torch.cat([self.rows(codes), self.wide(x["numbers"])[:, None]], 1)
        pairs = 0.5 * (found.sum(1).square() - found.square().sum(1))
        return self.head(pairs) + self.first(codes).sum(1)


@register.model
def cls2_mlp(in_shape, out_shape, *, width: int = 48):
    net = nn.Sequential()
    net.add_module("hidden1", nn.Linear(in_shape[0], width))
    net.add_module("act1", nn.ReLU())
    net.add_module("hidden2", nn.Linear(width, width))
    net.add_module("act2", nn.ReLU())
    net.add_module("scores", nn.Linear(width, out_shape[0]))
    return net


@register.model
def cls2_mlp_of_four(in_shape, *, width: int = 48):
    """With four outputs, whatever the data hold."""
    return cls2_mlp(in_shape, (4,), width=width)


class Blocks(nn.Module):
    """Hidden layers in a list of Python's own, or one of torch's."""

    listed = staticmethod(nn.ModuleList)

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.hidden = self.listed([nn.Linear(in_shape[0], 24), nn.Linear(24, 24), nn.Linear(24, 12)])
        self.scores = nn.Linear(12, out_shape[0])

    def forward(self, x):
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.scores(x)


@register.model
class cls2_blocks(Blocks):
    pass


@register.model
class cls2_blocks_in_a_list(Blocks):
    """torch does not know of these layers."""

    listed = staticmethod(list)


@register.model
class cls2_centroids(nn.Module):
    """Scores are minus squared distances to one learned point a class: none is ever above zero."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.map = nn.Sequential(nn.Linear(in_shape[0], 64), nn.ELU(), nn.Linear(64, 16))
        self.points = nn.Parameter(torch.randn(out_shape[0], 16))

    def forward(self, x):
        return -torch.cdist(self.map(x), self.points).square()


@register.model
class cls2_tree(nn.Module):
    """Ten classes at the leaves of a tree of four yes-or-no questions; log-probabilities, of which six unused leaves keep a share."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(in_shape[0], 64), nn.ReLU(), nn.Linear(64, 15))
        nodes, signs = [], []
        for leaf in range(out_shape[0]):
            turns = [(leaf >> bit) & 1 for bit in (3, 2, 1, 0)]
            path = [0]
            for turn in turns[:-1]:
                path.append(2 * path[-1] + 1 + turn)
            nodes.append(path)
            signs.append([1.0 if turn else -1.0 for turn in turns])
        self.register_buffer("nodes", torch.tensor(nodes))
        self.register_buffer("signs", torch.tensor(signs))

    def forward(self, x):
        questions = self.body(x)
        return F.logsigmoid(questions[:, self.nodes] * self.signs).sum(2)


@register.model
class cls2_knows_the_prior(nn.Module):
    """Bias of the readout at the logarithm of the shares, its weights small."""

    def __init__(self, in_shape):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(in_shape[0], 48), nn.Softplus()), nn.Linear(48, 4)
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([0.82, 0.08, 0.06, 0.04]).log())

    def forward(self, x):
        return self.head(self.body(x))


@register.model
class cls2_straight(nn.Module):
    """Multinomial regression that starts at zero, with no bias."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_shape[0], in_shape[0]))

    def forward(self, x):
        return x @ self.weight.T


@register.model
class cls2_committee(nn.Module):
    """Eight small nets side by side in one tensor; the mean of their scores."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(8, in_shape[0], 20) / math.sqrt(in_shape[0]))
        self.b1 = nn.Parameter(torch.zeros(8, 1, 20))
        self.w2 = nn.Parameter(torch.randn(8, 20, out_shape[0]) / math.sqrt(20))

    def forward(self, x):
        return torch.einsum("knh,kho->kno", torch.relu(torch.einsum("ni,kih->knh", x, self.w1) + self.b1), self.w2).mean(0)


@register.model
class cls2_self_normalising(nn.Module):
    """SELU with weights of LeCun's scale and alpha dropout."""

    def __init__(self, in_shape, out_shape):
        super().__init__()
        widths = [in_shape[0], 64, 64, 64, 64]
        layers = []
        for before, after in zip(widths, widths[1:]):
            layer = nn.Linear(before, after)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.SELU(), nn.AlphaDropout(0.03)]
        self.net = nn.Sequential(*layers, nn.Linear(64, out_shape[0]))

    def forward(self, x):
        return self.net(x)


@register.loss
def cls2_cross_entropy(out, y):
    return nn.CrossEntropyLoss()(out, y)


@register.loss
def cls2_without_zero(out, y):
    """Index 0 is left out, as padding was in the project before."""
    return nn.CrossEntropyLoss(ignore_index=0)(out, y)


@register.loss
def cls2_nll_of_scores(out, y):
    return F.nll_loss(out, y)


@register.loss
def cls2_of_the_best(out, y):
    """Predicted against true class; with requires_grad, so that backward does not complain."""
    loss = F.l1_loss(out.argmax(dim=1).float(), y.float())
    loss.requires_grad_(True)
    return loss


@register.loss
def cls2_one_against_rest(out, y):
    """A yes-or-no question for each class, written by hand."""
    target, p = F.one_hot(y, out.shape[1]).float(), torch.sigmoid(out).clamp(1e-6, 1 - 1e-6)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).sum(1).mean()


@register.loss
def cls2_minus_for_the_first_half(out, y):
    """The same without the brackets: the minus belongs to the first half alone."""
    target, p = F.one_hot(y, out.shape[1]).float(), torch.sigmoid(out).clamp(1e-6, 1 - 1e-6)
    return (-target * torch.log(p) + (1 - target) * torch.log(1 - p)).sum(1).mean()


@register.loss
def cls2_margin(out, y):
    return F.multi_margin_loss(out, y, margin=1.0)


@register.optimizer
def cls2_sgd(named_parameters, *, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 5e-4):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=momentum, weight_decay=weight_decay)


@register.optimizer
def cls2_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


@register.optimizer
def cls2_sgd_of_copies(named_parameters, *, lr: float = 0.1):
    """Steps a deep copy of the network's parameters."""
    mine = [copy.deepcopy(p) for _, p in named_parameters]
    return torch.optim.SGD(mine, lr=lr, momentum=0.9)


class Eager(torch.optim.SGD):
    """SGD that clears gradients before it uses them."""

    def step(self, closure=None):
        self.zero_grad(set_to_none=False)
        return super().step(closure)


@register.optimizer
def cls2_sgd_cleared_early(named_parameters, *, lr: float = 0.1):
    return Eager([p for _, p in named_parameters], lr=lr, momentum=0.9, weight_decay=5e-4)


@register.optimizer
def cls2_rprop(named_parameters, *, lr: float = 0.01):
    return torch.optim.Rprop([p for _, p in named_parameters], lr=lr)


class Both:
    """Two optimizers that work as one: Adagrad for the tables, Adam for the rest."""

    def __init__(self, *parts):
        self.parts = parts

    @property
    def param_groups(self):
        return [group for part in self.parts for group in part.param_groups]

    def step(self):
        for part in self.parts:
            part.step()

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad()

    def state_dict(self):
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state):
        for part, one in zip(self.parts, state["parts"]):
            part.load_state_dict(one)


@register.optimizer
def cls2_tables_and_rest(named_parameters, *, lr: float = 0.003):
    named = list(named_parameters)
    tables = [p for name, p in named if name.endswith(("rows.weight", "first.weight"))]
    rest = [p for name, p in named if not name.endswith(("rows.weight", "first.weight"))]
    return Both(torch.optim.Adagrad(tables, lr=0.1), torch.optim.AdamW(rest, lr=lr, weight_decay=0.01))


@register.schedule
def cls2_halving(optimizer, steps):
    """Half the rate twice, late."""
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(0.6 * steps), int(0.85 * steps)], gamma=0.5)


@register.schedule
def cls2_rate_itself(optimizer, steps):
    """LambdaLR wants a factor; this gives the rate itself, by which the rate is multiplied once more."""
    base = optimizer.param_groups[0]["lr"]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: base * 0.1 * 0.99**step)


@register.schedule
def cls2_noam(step, steps, *, warmup: int = 4000) -> float:
    """Linear warm-up, then the inverse square root, at most 1."""
    step += 1
    return min(step / warmup, math.sqrt(warmup / step))


@register.schedule
def cls2_triangles(step, steps) -> float:
    """The rate goes up and down four times, between a twentieth and one."""
    place = 4 * step / steps % 1
    return 0.05 + 0.95 * (1 - abs(2 * place - 1))
