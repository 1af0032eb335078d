"""Shops and what people buy there: stars, clicks, returns, prices, reviews, listings, receipts. See markets.yaml."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, TensorDataset, WeightedRandomSampler

from dlrun import DataSpec, Splits, register

# ---------------------------------------------------------------- stars that users give to items

N_USERS, N_ITEMS = 200, 600


class RatingsDataset(Dataset):
    """Rows of a table (user, item, stars)."""

    def __init__(self, users, items, stars):
        self.users, self.items, self.stars = users, items, stars

    def __len__(self):
        return len(self.stars)

    def __getitem__(self, idx):
        x = {"user": torch.tensor(int(self.users[idx])), "item": torch.tensor(int(self.items[idx]))}
        return x, torch.tensor(self.stars[idx], dtype=torch.float32)


def rating_table(seed=7, rows=18000):
    """Users and items with tastes of four numbers; stars are whole, one to five."""
    rng = np.random.default_rng(seed)
    p, q = rng.normal(size=(N_USERS, 4)), rng.normal(size=(N_ITEMS, 4))
    mood, quality = 0.3 * rng.normal(size=N_USERS), 0.5 * rng.normal(size=N_ITEMS)
    u, i = rng.integers(0, N_USERS, rows), rng.integers(0, N_ITEMS, rows)
    raw = 3.4 + mood[u] + quality[i] + 0.5 * (p[u] * q[i]).sum(1) + 0.3 * rng.normal(size=rows)
    return u, i, np.clip(np.rint(raw), 1, 5)


def rating_splits(make=RatingsDataset, small=False):
    u, i, r = rating_table()
    if small:
        u, i, r = (column.astype(np.uint8) for column in (u, i, r))
    cut = [slice(0, 15000), slice(15000, 16000), slice(16000, 18000)]
    return Splits(*(make(u[s], i[s], r[s]) for s in cut))


@register.dataset
def mar5_ratings() -> Splits:
    """The table of stars, shuffled, cut in three."""
    return rating_splits()


@register.dataset
def mar5_ratings_small_ints() -> Splits:
    """The same table after every column was made as small as its first rows seemed to allow."""
    return rating_splits(small=True)


class StepsDataset(RatingsDataset):
    """Stars as classes from nought."""

    def __getitem__(self, idx):
        x, y = super().__getitem__(idx)
        return x, y.long() - 1


@register.dataset
def mar5_ratings_as_steps() -> Splits:
    spec = DataSpec((2,), (4,), "other")
    found = rating_splits(StepsDataset)
    return Splits(found.train, found.val, found.test, spec=spec)


class MatrixFactorization(nn.Module):
    """Two tables, a dot product, two biases."""

    def __init__(self, dim=8):
        super().__init__()
        self.user_factors, self.item_factors = nn.Embedding(N_USERS, dim), nn.Embedding(N_ITEMS, dim)
        self.user_bias, self.item_bias = nn.Embedding(N_USERS, 1), nn.Embedding(N_ITEMS, 1)
        self.mean = nn.Parameter(torch.tensor(3.0))
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=0.2)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, x):
        u, i = x["user"], x["item"]
        dot = (self.user_factors(u) * self.item_factors(i)).sum(-1)
        return self.mean + dot + self.user_bias(u).squeeze(-1) + self.item_bias(i).squeeze(-1)


@register.model
def mar5_mf() -> nn.Module:
    return MatrixFactorization()


@register.model
class mar5_neumf(nn.Module):
    """Vectors of user and item side by side and their product, through a perceptron."""

    def __init__(self, *, dim: int = 12):
        super().__init__()
        self.embed_user = nn.Embedding(N_USERS, dim)
        self.embed_item = nn.Embedding(N_ITEMS, dim)
        self.fc = nn.Sequential(nn.Linear(3 * dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def items(self, x):
        return self.embed_item(x["item"])

    def forward(self, x):
        u, i = self.embed_user(x["user"]), self.items(x)
        return 3.0 + self.fc(torch.cat([u, i, u * i], dim=1)).squeeze(1)


@register.model
class mar5_neumf_copied_line(mar5_neumf):
    """The line of the users copied for the items, its key left as it was."""

    def items(self, x):
        return self.embed_item(x["user"])


@register.model
class mar5_ordinal(nn.Module):
    """A taste in one number against four thresholds in rising order."""

    def __init__(self, *, dim: int = 8):
        super().__init__()
        self.taste = MatrixFactorization(dim)
        self.taste.mean = None
        self.first, self.gaps = nn.Parameter(torch.tensor(-2.0)), nn.Parameter(torch.zeros(3))

    def forward(self, x):
        u, i = x["user"], x["item"]
        t = self.taste
        score = (t.user_factors(u) * t.item_factors(i)).sum(-1) + t.user_bias(u)[:, 0] + t.item_bias(i)[:, 0]
        edges = torch.cat([self.first[None], self.first + F.softplus(self.gaps).cumsum(0)])
        return score[:, None] - edges


@register.loss
def mar5_over_each_edge(out, y):
    """Is it more than k stars, for each k."""
    return F.binary_cross_entropy_with_logits(out, (y[:, None] > torch.arange(4, device=y.device)).float())


@register.loss
def mar5_mse(out, y):
    return F.mse_loss(out, y)


@register.metric(best="min", batches=False)
def mar5_mae(out, y):
    return (out - y).abs().mean()


@register.optimizer
def mar5_adam(named_parameters, *, lr: float = 1e-2, weight_decay: float = 0.0):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr, weight_decay=weight_decay)


# ---------------------------------------------------------------- clicks on offers

FIELDS = (24, 7, 60, 150)  # hour, device, shop, offer


def clicks(rows, seed):
    """Four ids and three numbers a view, clicked one time in ten or so."""
    world, rng = np.random.default_rng(5), np.random.default_rng(seed)
    effect = [world.normal(size=n) * s for n, s in zip(FIELDS, (0.4, 0.6, 0.9, 1.0), strict=True)]
    taste = world.normal(size=(7, 60)) * 0.8
    ids = np.stack([rng.integers(0, n, rows) for n in FIELDS], 1)
    nums = rng.normal(size=(rows, 3))
    logit = -3.0 + sum(e[ids[:, k]] for k, e in enumerate(effect)) + taste[ids[:, 1], ids[:, 2]] + nums @ np.array([0.7, -0.9, 0.0])
    y = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    x = {"ids": torch.from_numpy(ids), "nums": torch.from_numpy(nums.astype(np.float32))}
    return {"x": x, "y": torch.from_numpy(y)}


@register.dataset
def mar5_clicks() -> Splits:
    """Views of offers and whether they were clicked."""
    spec = DataSpec((7,), (), "binary")
    return Splits(clicks(9000, 1), clicks(1500, 2), clicks(4000, 3), spec=spec)


class WideAndDeep(nn.Module):
    """One weight an id, and vectors of the ids through a perceptron."""

    def __init__(self, dim=6):
        super().__init__()
        self.wide = nn.ModuleList(nn.Embedding(n, 1) for n in FIELDS)
        self.tables = nn.ModuleList(nn.Embedding(n, dim) for n in FIELDS)
        self.deep = nn.Sequential(nn.Linear(dim * len(FIELDS) + 3, 48), nn.ReLU(), nn.Linear(48, 1))
        for table in self.wide:
            nn.init.zeros_(table.weight)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, x):
        ids = x["ids"]
        wide = sum(table(ids[:, k]) for k, table in enumerate(self.wide))
        deep = self.deep(torch.cat([table(ids[:, k]) for k, table in enumerate(self.tables)] + [x["nums"]], -1))
        return (wide + deep).squeeze(-1)


@register.model
def mar5_wide_and_deep() -> nn.Module:
    return WideAndDeep()


@register.model
class mar5_hashed_lr(nn.Module):
    """Logistic regression on hashed pairs of field and id, all weights nought at the start."""

    def __init__(self, *, buckets: int = 509):
        super().__init__()
        self.w = nn.EmbeddingBag(buckets, 1, mode="sum")
        self.lin = nn.Linear(3, 1)
        self.buckets = buckets
        nn.init.zeros_(self.w.weight), nn.init.zeros_(self.lin.weight), nn.init.zeros_(self.lin.bias)
        self.register_buffer("salt", torch.tensor([7919, 104729, 1299709, 15485863]))

    def forward(self, x):
        ids = x["ids"]
        pair = ids[:, 1] * 61 + ids[:, 2] + 1000
        keys = torch.cat([(ids + 1) * self.salt, pair[:, None] * 32452843], 1) % self.buckets
        return (self.w(keys) + self.lin(x["nums"]))[:, 0]


@register.model
class mar5_click_mlp(nn.Module):
    """Vectors of ids and normalised numbers through two hidden layers."""

    def __init__(self):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(n, min(16, (n + 1) // 2)) for n in FIELDS])
        wide = sum(e.embedding_dim for e in self.embs)
        self.bn_cont = nn.BatchNorm1d(3)
        self.lin1, self.lin2, self.out = nn.Linear(wide + 3, 64), nn.Linear(64, 32), nn.Linear(32, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(64), nn.BatchNorm1d(32)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        cats = torch.cat([e(x["ids"][:, i]) for i, e in enumerate(self.embs)], 1)
        h = torch.cat([cats, self.bn_cont(x["nums"])], 1)
        h = self.drop(self.bn1(F.relu(self.lin1(h))))
        h = self.drop(self.bn2(F.relu(self.lin2(h))))
        return self.out(h).squeeze(1)


@register.loss
def mar5_bce(out, y):
    return F.binary_cross_entropy_with_logits(out, y)


@register.loss
class mar5_bce_weighted(nn.Module):
    """A click counts as much as several views without."""

    def __init__(self, *, pos_weight: float = 6.0):
        super().__init__()
        self.crit = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(pos_weight))

    def forward(self, out, y):
        return self.crit(out, y)


@register.metric(best="max", whole=True)
def mar5_auc(out, y):
    """Share of pairs of a yes and a no in the right order."""
    score, yes = out.flatten(), y.flatten() > 0
    rank = torch.empty_like(score)
    rank[score.argsort()] = torch.arange(1, len(score) + 1, dtype=score.dtype, device=score.device)
    a, b = yes.sum(), (~yes).sum()
    return (rank[yes].sum() - a * (a + 1) / 2) / (a * b)


class TwoOptimizers:
    """Adagrad for tables of ids, Adam for everything else, behind the face of one optimizer."""

    def __init__(self, named, lr, lr_tables):
        tables = [p for name, p in named if "wide" in name or "tables" in name]
        dense = [p for name, p in named if "wide" not in name and "tables" not in name]
        self.sparse, self.dense = torch.optim.Adagrad(tables, lr=lr_tables), torch.optim.Adam(dense, lr=lr)

    @property
    def param_groups(self):
        return self.sparse.param_groups + self.dense.param_groups

    def zero_grad(self, set_to_none=True):
        self.sparse.zero_grad(set_to_none)
        self.dense.zero_grad(set_to_none)

    def step(self, closure=None):
        self.sparse.step()
        self.dense.step()

    def state_dict(self):
        return {"sparse": self.sparse.state_dict(), "dense": self.dense.state_dict()}

    def load_state_dict(self, state):
        self.sparse.load_state_dict(state["sparse"]), self.dense.load_state_dict(state["dense"])


class ForgetsTables(TwoOptimizers):
    """Clears what the second of the two owns."""

    def zero_grad(self, set_to_none=True):
        self.dense.zero_grad(set_to_none)


@register.optimizer
def mar5_two_optimizers(named_parameters, *, lr: float = 3e-3, lr_tables: float = 0.1):
    return TwoOptimizers(list(named_parameters), lr, lr_tables)


@register.optimizer
def mar5_two_optimizers_one_cleared(named_parameters, *, lr: float = 3e-3, lr_tables: float = 0.1):
    return ForgetsTables(list(named_parameters), lr, lr_tables)


@register.optimizer
def mar5_adagrad(named_parameters, *, lr: float = 0.3):
    return torch.optim.Adagrad([p for _, p in named_parameters], lr=lr)


@register.optimizer
def mar5_adamw(named_parameters, *, lr: float = 5e-3):
    return torch.optim.AdamW([p for _, p in named_parameters], lr=lr, weight_decay=1e-2)


@register.schedule
def mar5_one_cycle(optimizer, steps, *, top: float = 0.01):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=top, total_steps=steps + 1)


# ---------------------------------------------------------------- why parcels come back

REASONS = 5
SHARE = np.array([0.72, 0.14, 0.07, 0.04, 0.03])


def returns(rows, seed):
    """Twelve numbers about an order, and the reason given when it came back: most often one of five."""
    world, rng = np.random.default_rng(31), np.random.default_rng(seed)
    centre = world.normal(size=(REASONS, 2, 12)) * 0.75
    y = rng.choice(REASONS, size=rows, p=SHARE)
    x = centre[y, rng.integers(0, 2, rows)] + rng.normal(size=(rows, 12))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def returns_splits(weights_of=None):
    train, val, test = (TensorDataset(*returns(rows, seed)) for rows, seed in ((3000, 1), (800, 2), (2500, 3)))
    sampler = None
    if weights_of is not None:
        weights = weights_of(train.tensors[1])
        sampler = WeightedRandomSampler(weights, num_samples=len(train), replacement=True)
    return Splits(train, val, test, spec=DataSpec((12,), (REASONS,), "classification", classes=REASONS), sampler=sampler)


@register.dataset
def mar5_returns() -> Splits:
    return returns_splits()


@register.dataset
def mar5_returns_balanced() -> Splits:
    """Each row is drawn with one over the count of its class."""
    return returns_splits(lambda y: (1.0 / torch.bincount(y).float())[y])


@register.dataset
def mar5_returns_balanced_by_class() -> Splits:
    """The sampler gets a weight a class, where it wants one a row."""
    return returns_splits(lambda y: 1.0 / torch.bincount(y).float())


@register.model
def mar5_returns_net(in_shape, out_shape) -> nn.Module:
    return nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, REASONS))


@register.loss
def mar5_ce(out, y):
    return F.cross_entropy(out, y)


@register.loss
class mar5_ce_rare_more(nn.CrossEntropyLoss):
    """Classes weigh one over their share."""

    def __init__(self):
        weight = torch.tensor(1 / SHARE, dtype=torch.float32)
        super().__init__(weight=weight / weight.mean())


@register.loss
class mar5_ce_rare_less(nn.CrossEntropyLoss):
    """Classes weigh their share."""

    def __init__(self):
        weight = torch.tensor(SHARE, dtype=torch.float32)
        super().__init__(weight=weight / weight.mean())


@register.metric(best="max", whole=True)
def mar5_balanced(out, y):
    """Mean over classes of the share that is found."""
    hit = (out.argmax(-1) == y).float()
    return torch.stack([hit[y == k].mean() for k in y.unique()]).mean()


# ---------------------------------------------------------------- prices

SELLERS = 900


def sales(rows, seed):
    """Six standardised numbers about a used thing, its seller, and the logarithm of what was paid."""
    world, rng = np.random.default_rng(77), np.random.default_rng(seed)
    greed, slope = 0.6 * world.normal(size=SELLERS), world.normal(size=6) * 0.35
    seller, x = rng.integers(0, SELLERS, rows), rng.normal(size=(rows, 6))
    y = x @ slope + 0.3 * np.tanh(2 * x[:, 0] * x[:, 1]) + greed[seller] + 0.8 * rng.normal(size=rows)
    return x, seller, y


def seller_means(seller, y):
    """What each seller took on average; sellers who sold nothing get the mean of all."""
    count = np.bincount(seller, minlength=SELLERS)
    return np.where(count > 0, np.bincount(seller, y, SELLERS) / np.maximum(count, 1), y.mean())


def encoded(means, rows, seed):
    x, seller, y = sales(rows, seed)
    table = np.concatenate([x, means[seller][:, None]], 1)
    return torch.tensor(table, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def price_splits(past):
    """`past` is the seed of the table that sellers' means are taken from."""
    means = seller_means(*sales(2000, past)[1:])
    return Splits(encoded(means, 2000, 1), encoded(means, 600, 2), encoded(means, 2500, 3))


@register.dataset
def mar5_prices() -> Splits:
    """Sellers stand for what they took the year before."""
    return price_splits(past=4)


@register.dataset
def mar5_prices_encoded_by_themselves() -> Splits:
    """Sellers stand for what they took in the very rows that are trained on."""
    return price_splits(past=1)


class Appraiser(nn.Module):
    """Numbers in, one number out."""

    def __init__(self, out=1):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, out))

    def forward(self, x):
        return self.net(x).squeeze(-1)


@register.model
def mar5_appraiser() -> nn.Module:
    return Appraiser()


@register.model
class mar5_appraiser_to_the_cent(Appraiser):
    """Prices have two places behind the point."""

    def __init__(self):
        super().__init__()

    def forward(self, x):
        return torch.round(super().forward(x), decimals=2)


@register.optimizer
def mar5_sgd(named_parameters, *, lr: float = 0.05):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9, nesterov=True)


@register.dataset
def mar5_demand() -> Splits:
    """Pieces sold a day, from eight numbers."""

    def table(rows, seed):
        world, rng = np.random.default_rng(13), np.random.default_rng(seed)
        x = rng.normal(size=(rows, 8))
        rate = np.exp(0.8 + 0.25 * x @ world.normal(size=8) + 0.4 * np.sin(2 * x[:, 0]))
        return torch.tensor(x, dtype=torch.float32), torch.tensor(rng.poisson(rate), dtype=torch.float32)

    return Splits(table(3000, 1), table(600, 2), table(2000, 3))


@register.model
def mar5_demand_net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))


@register.loss
class mar5_poisson(nn.PoissonNLLLoss):
    """Counts, given the logarithm of their rate."""

    def __init__(self):
        super().__init__(log_input=True)


# ---------------------------------------------------------------- reviews

WORDS, LONG = 160, 48  # 0 pads; 1 turns the next word round; 2-31 praise; 32-61 blame; the others say nothing


class Reviews(Dataset):
    """Short reviews as numbers of words, padded to one length, with whether they praise, blame or do neither."""

    def __init__(self, rows, seed):
        rng = np.random.default_rng(seed)
        self.tokens, self.labels = np.zeros((rows, LONG), dtype=np.int64), np.zeros(rows, dtype=np.int64)
        for r in range(rows):
            label, text = r % 3, []
            for _ in range(rng.integers(3, 9)):
                if rng.random() < 0.55:
                    text.append(int(rng.integers(62, WORDS)))
                    continue
                praise = rng.random() < (0.5, 0.88, 0.12)[label]
                turned = rng.random() < 0.15
                text += [1] * turned + [int(rng.integers(2, 32) + 30 * (praise == turned))]
            self.tokens[r, : len(text)], self.labels[r] = text, label

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return torch.from_numpy(self.tokens[i]), int(self.labels[i])


@register.dataset
def mar5_reviews() -> Splits:
    """Reviews of three kinds."""
    spec = DataSpec((LONG,), (3,), "classification", classes=3, vocab=WORDS)
    return Splits(Reviews(2400, 1), Reviews(400, 2), Reviews(1200, 3), spec=spec)


class ReviewGRU(nn.Module):
    """Reads a review and says its kind from the state behind the last word."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 24, padding_idx=0)
        self.gru = nn.GRU(24, 32, batch_first=True)
        self.classifier = nn.Linear(32, 3)

    def last(self, states, tokens):
        end = (tokens != 0).sum(1) - 1
        return states[torch.arange(len(tokens)), end]

    def forward(self, tokens):
        states, _ = self.gru(self.embedding(tokens))
        return self.classifier(self.last(states, tokens))


@register.model
def mar5_review_gru() -> nn.Module:
    return ReviewGRU()


@register.model
class mar5_review_gru_end_of_padding(ReviewGRU):
    """Takes the state at the last place, which is far behind the last word."""

    def last(self, states, tokens):
        return states[:, -1]


class Pooled(nn.Module):
    """A learnt query looks over the words of a review."""

    def __init__(self):
        super().__init__()
        self.emb, self.pos = nn.Embedding(WORDS, 32), nn.Embedding(LONG, 32)
        self.conv = nn.Conv1d(32, 32, 2)
        self.query, self.attn = nn.Parameter(torch.randn(1, 1, 32) * 0.1), nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, tokens):
        h = self.emb(tokens) + 0.1 * self.pos.weight
        h = F.relu(self.conv(F.pad(h.transpose(1, 2), (1, 0)))).transpose(1, 2)
        seen, _ = self.attn(self.query.expand(len(h), -1, -1), h, h, key_padding_mask=tokens == 0, need_weights=False)
        return self.head(seen[:, 0])


@register.model
def mar5_review_attention() -> nn.Module:
    return Pooled()


@register.model
class mar5_textcnn(nn.Module):
    """Filters over one, two and three words, the strongest answer of each."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 24, padding_idx=0)
        self.convs = nn.ModuleList([nn.Conv1d(24, 16, k, padding=k - 1) for k in (1, 2, 3)])
        self.dropout, self.fc = nn.Dropout(0.3), nn.Linear(48, 3)

    def forward(self, x):
        x = self.embed(x).transpose(1, 2)
        return self.fc(self.dropout(torch.cat([F.relu(conv(x)).amax(-1) for conv in self.convs], 1)))


@register.model
class mar5_bag(nn.Module):
    """The mean of the words' vectors, padding left out, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(WORDS, 32, mode="mean", padding_idx=0)
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        return self.fc(self.bag(x))


# ---------------------------------------------------------------- the same thing in two shops


def listings(rows, seed, no=-1.0):
    """Two descriptions of twenty numbers; half of the pairs are of one thing. `no` is the label of the others."""
    world = torch.Generator().manual_seed(3)
    show, style = torch.randn(6, 20, generator=world), 2.5 * torch.randn(2, 5, 20, generator=world)
    g = torch.Generator().manual_seed(seed)
    thing = torch.randn(rows, 6, generator=g)
    same = torch.rand(rows, generator=g) < 0.5
    other = torch.where(same[:, None], thing, torch.randn(rows, 6, generator=g))
    sides = [
        (what @ show + torch.randn(rows, 5, generator=g) @ style[k] + 0.4 * torch.randn(rows, 20, generator=g)) / 5
        for k, what in enumerate((thing, other))
    ]
    return {"x": {"here": sides[0], "there": sides[1]}, "y": torch.where(same, 1.0, no)}


def listing_splits(no):
    spec = DataSpec((40,), (2, 12), "other")
    return Splits(*(listings(rows, seed, no) for rows, seed in ((4000, 1), (800, 2), (2000, 3))), spec=spec)


@register.dataset
def mar5_listings() -> Splits:
    """Pairs with 1 for the same thing and -1 for two things."""
    return listing_splits(-1.0)


@register.dataset
def mar5_listings_yes_no() -> Splits:
    """Pairs with 1 for the same thing and 0 for two things."""
    return listing_splits(0.0)


@register.model
class mar5_siamese(nn.Module):
    """One tower for both sides."""

    def __init__(self):
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 12))

    def forward(self, x):
        return torch.stack([self.tower(x["here"]), self.tower(x["there"])], 1)


@register.loss
class mar5_cosine(nn.CosineEmbeddingLoss):
    """torch's own loss of pairs, with a margin."""

    def __init__(self):
        super().__init__(margin=0.2)

    def forward(self, out, y):
        return super().forward(out[:, 0], out[:, 1], y)


@register.metric(best="max", whole=True)
def mar5_pairs_auc(out, y):
    """Share of right orders of the cosines of same and of different pairs."""
    cos = F.cosine_similarity(out[:, 0], out[:, 1])
    yes, no = cos[y > 0], cos[y <= 0]
    return (yes[:, None] > no[None]).float().mean()


@register.dataset
def mar5_bought() -> Splits:
    """What a user is like and an item he bought; popular items more often. The label is the logarithm of its share."""
    world = torch.Generator().manual_seed(17)
    items = F.normalize(torch.randn(120, 8, generator=world), dim=1)
    share = F.normalize(torch.arange(3, 123) ** -0.5, p=1, dim=0)
    blur = torch.randn(8, 16, generator=world)

    def bought(rows, seed):
        g = torch.Generator().manual_seed(seed)
        user = torch.randn(rows, 8, generator=g)
        pick = torch.distributions.Gumbel(0.0, 1.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            noise = pick.sample((rows, 120))
        item = (share.log() + 4.0 * user @ items.T + noise).argmax(1)
        return {"x": {"user": user @ blur, "item": item}, "y": share.log()[item]}

    spec = DataSpec((16,), (2, 16), "contrastive")
    return Splits(bought(4000, 1), bought(800, 2), bought(2000, 3), spec=spec)


@register.model
class mar5_two_towers(nn.Module):
    """A perceptron for users, a table for items, both on the sphere; the temperature is learnt."""

    def __init__(self):
        super().__init__()
        self.user = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
        self.item = nn.Embedding(120, 16)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        u, i = F.normalize(self.user(x["user"]), dim=-1), F.normalize(self.item(x["item"]), dim=-1)
        return torch.stack([u * self.scale.exp(), i])


@register.metric(best="max", batches=False)
def mar5_found(out, y):
    """How often the item bought scores highest of all in the batch."""
    return ((out[0] @ out[1].T).argmax(1) == torch.arange(len(y), device=y.device)).float().mean()


@register.loss
def mar5_in_batch(out, y):
    """Each user against the items of the batch, popular ones held back as much as they are shown too often."""
    return F.cross_entropy(out[0] @ out[1].T - y[None], torch.arange(len(y), device=y.device))


# ---------------------------------------------------------------- receipts

GOODS, LINES = 60, 14  # 0 pads


class Receipts(Dataset):
    """Goods in the order they lay on the belt: one of five errands, each thing likes two others behind it."""

    def __init__(self, rows, seed):
        world, rng = np.random.default_rng(41), np.random.default_rng(seed)
        after = np.array([world.permutation(12)[:2] for _ in range(GOODS)])
        self.rows = []
        for _ in range(rows):
            errand, at, items = rng.integers(5), rng.integers(12), []
            for _ in range(rng.integers(6, LINES + 2)):
                items.append(1 + errand * 11 + at % 11)
                at = rng.integers(12) if rng.random() < 0.2 else after[items[-1], rng.integers(2)]
            self.rows.append(torch.tensor(items))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        items = self.rows[i][: LINES + 1]
        x, y = torch.zeros(LINES, dtype=torch.long), torch.full((LINES,), -100)
        x[: len(items) - 1], y[: len(items) - 1] = items[:-1], items[1:]
        return x, y


class ReceiptsPaddedBehind(Receipts):
    """Padding has the number behind the last thing in the shop."""

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x.masked_fill(x == 0, GOODS), y


def receipt_splits(make):
    spec = DataSpec((LINES,), (LINES, GOODS), "language_model", vocab=GOODS)
    return Splits(make(1500, 1), make(300, 2), make(1200, 3), spec=spec)


@register.dataset
def mar5_receipts() -> Splits:
    """What lies next on the belt."""
    return receipt_splits(Receipts)


@register.dataset
def mar5_receipts_padded_behind() -> Splits:
    return receipt_splits(ReceiptsPaddedBehind)


@register.model
class mar5_gru4rec(nn.Module):
    """The next thing by a GRU over things."""

    def __init__(self):
        super().__init__()
        self.item_embedding = nn.Embedding(GOODS, 32)
        self.gru = nn.GRU(32, 48, batch_first=True)
        self.out = nn.Linear(48, GOODS)

    def forward(self, items):
        hidden, _ = self.gru(self.item_embedding(items))
        return self.out(hidden)


@register.loss
def mar5_next_item(out, y):
    return F.cross_entropy(out.transpose(1, 2), y, ignore_index=-100)


@register.dataset
def mar5_baskets() -> Splits:
    """Which of sixty things a customer bought, as noughts and ones; the same again is what should come out."""

    def baskets(rows, seed):
        world, rng = np.random.default_rng(23), np.random.default_rng(seed)
        kind = world.normal(size=(4, GOODS)) * 1.2
        mix = rng.dirichlet(np.full(4, 0.4), rows)
        x = rng.random((rows, GOODS)) < 1 / (1 + np.exp(2.0 - mix @ kind * 2))
        x[np.arange(rows), rng.integers(0, GOODS, rows)] = True
        x = torch.tensor(x, dtype=torch.float32)
        return x, x.clone()

    return Splits(baskets(2500, 1), baskets(400, 2), baskets(1500, 3), spec=DataSpec((GOODS,), (GOODS,), "other"))


@register.model
class mar5_mult_dae(nn.Module):
    """Rows of length one, half of them hidden in training, through a narrow place."""

    def __init__(self):
        super().__init__()
        self.drop, self.enc, self.dec = nn.Dropout(0.5), nn.Linear(GOODS, 24), nn.Linear(24, GOODS)

    def forward(self, x):
        return self.dec(torch.tanh(self.enc(self.drop(F.normalize(x)))))


@register.loss
def mar5_multinomial(out, y):
    """How likely the things of a basket are among all."""
    return -(F.log_softmax(out, 1) * y).sum(-1).mean()
