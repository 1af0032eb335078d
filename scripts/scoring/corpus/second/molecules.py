"""Small molecules: graphs, fingerprints, strings, coordinates and spectra, all made up. See molecules.yaml."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import Dataset

from dlrun import DataSpec, Splits, register

# ---------------------------------------------------------------- graphs with atoms and bonds, one property

ATOMS, KINDS = 10, 6


def molecules(rows, seed):
    """Random trees of 5 to 10 atoms: kinds (0 is none), bonds (child, parent), their order (0 is none), a property."""
    g = torch.Generator().manual_seed(seed)
    size = torch.randint(5, ATOMS + 1, (rows,), generator=g)
    there = torch.arange(ATOMS) < size[:, None]
    atoms = torch.randint(1, KINDS, (rows, ATOMS), generator=g) * there
    parent = torch.stack([torch.randint(0, i, (rows,), generator=g) for i in range(1, ATOMS)], 1)
    child = torch.arange(1, ATOMS).expand(rows, -1)
    order = torch.randint(1, 3, (rows, ATOMS - 1), generator=g) * there[:, 1:]
    own = torch.tensor([0.0, 0.4, -0.9, -0.5, 0.7, 0.1])
    pair = torch.randn(KINDS, KINDS, generator=torch.Generator().manual_seed(99))
    pair = pair + pair.T
    y = own[atoms].sum(1) + 0.5 * (pair[atoms.gather(1, parent), atoms[:, 1:]] * order).sum(1)
    y = y + 0.1 * torch.randn(rows, generator=g)
    return atoms, torch.stack((child, parent), 2), order.float(), y


def as_rows(parts, mean, std):
    atoms, bonds, order, y = parts
    return {"x": {"atoms": atoms, "bonds": bonds, "order": order}, "y": (y - mean) / std}


@register.dataset
def mol6_logp():
    """A property of trees of atoms, standardised by what train says."""
    train = molecules(1500, 1)
    mean, std = train[3].mean(), train[3].std()
    splits = [as_rows(part, mean, std) for part in (train, molecules(300, 2), molecules(1000, 3))]
    return Splits(*splits, spec=DataSpec((ATOMS,), (), "graph"))


@register.dataset
def mol6_logp_sliced():
    """The table comes sorted by the property and is cut in order."""
    train, rest = molecules(1500, 1), molecules(1300, 2)
    mean, std = train[3].mean(), train[3].std()
    table = [torch.cat(columns) for columns in zip(train, rest, strict=True)]
    table = [column[table[3].argsort()] for column in table]
    splits = [as_rows([column[a:b] for column in table], mean, std) for a, b in ((0, 1500), (1500, 1800), (1800, 2800))]
    return Splits(*splits, spec=DataSpec((ATOMS,), (), "graph"))


class MessagePassing(nn.Module):
    """All molecules of a batch as one big graph; bonds are numbered through."""

    offset = True

    def __init__(self, width=32, rounds=2):
        super().__init__()
        self.embed = nn.Embedding(KINDS, width, padding_idx=0)
        self.messages = nn.ModuleList(nn.Linear(width, width) for _ in range(rounds))
        self.updates = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(rounds))
        self.readout = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x):
        b, n = x["atoms"].shape
        h = self.embed(x["atoms"]).reshape(b * n, -1)
        first = torch.arange(b, device=h.device)[:, None] * n
        bonds = x["bonds"] + first[..., None] if self.offset else x["bonds"]
        src, dst = bonds.reshape(-1, 2).T
        src, dst = torch.cat((src, dst)), torch.cat((dst, src))
        weight = x["order"].reshape(-1, 1).repeat(2, 1)
        for message, update in zip(self.messages, self.updates, strict=True):
            got = torch.zeros_like(h).index_add(0, dst, weight * message(h)[src])
            h = h + F.relu(update(torch.cat((h, got), 1)))
        there = (x["atoms"] > 0).float()[..., None]
        return self.readout((h.reshape(b, n, -1) * there).sum(1) / ATOMS).squeeze(-1)


class MessagePassingNoOffset(MessagePassing):
    """The numbers of atoms in bonds start at 0 for each molecule, and stay so."""

    offset = False


@register.model
def mol6_mpnn():
    return MessagePassing()


@register.model
def mol6_mpnn_no_offset():
    return MessagePassingNoOffset()


@register.loss
def mol6_squares(out, y):
    return F.mse_loss(out, y)


@register.optimizer
def mol6_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


class Fingerprint(nn.Module):
    """Each atom with its neighbours writes into a soft row of bits; the sum of rows is the fingerprint of the molecule."""

    def __init__(self, width=24, bits=12):
        super().__init__()
        self.atom, self.near = nn.Linear(KINDS, width), nn.Linear(KINDS, width, bias=False)
        self.write = nn.Linear(width, bits)
        self.head = nn.Sequential(nn.Linear(bits, 32), nn.ReLU(), nn.Linear(32, 1))

    def bits(self, scores):
        return F.softmax(scores, -1)

    def forward(self, x):
        kinds = F.one_hot(x["atoms"], KINDS).float()
        b, n = x["atoms"].shape
        edge = torch.zeros(b, n, n, device=kinds.device)
        rows = torch.arange(b, device=kinds.device)[:, None]
        edge[rows, x["bonds"][..., 0], x["bonds"][..., 1]] = x["order"]
        edge = edge + edge.transpose(1, 2)
        h = torch.tanh(self.atom(kinds) + self.near(edge @ kinds))
        there = (x["atoms"] > 0).float()[..., None]
        return self.head((self.bits(3 * self.write(h)) * there).sum(1)).squeeze(1)


class HardFingerprint(Fingerprint):
    """The bit is chosen by argmax."""

    def bits(self, scores):
        return F.one_hot(scores.argmax(-1), scores.shape[-1]).float()


@register.model
def mol6_soft_bits():
    return Fingerprint()


@register.model
def mol6_hard_bits():
    return HardFingerprint()


@register.dataset
def mol6_rings():
    """How many bonds of a molecule go from an atom of one group up to one of the other: a small count."""

    def rows(n, seed):
        atoms, bonds, order, _ = molecules(n, seed)
        ends = atoms.gather(1, bonds[..., 1]), atoms[:, 1:]
        count = ((ends[0] < 3) & (ends[1] >= 3) & (order > 0)).sum(1)
        return {"x": {"atoms": atoms, "bonds": bonds, "order": order}, "y": count.float()}

    return Splits(rows(1200, 11), rows(300, 12), rows(1000, 13), spec=DataSpec((ATOMS,), (), "graph"))


@register.loss
def mol6_poisson(out, y):
    """Counts: the output is the logarithm of a rate, the factorial is left out."""
    return (out.exp() - y * out).mean()


# ---------------------------------------------------------------- fingerprints: toxic or not, assays, solubility, similarity

BITS = 96


def prints(n, seed):
    g = np.random.default_rng(seed)
    share = 0.1 + 0.3 * np.random.default_rng(5).random(BITS)
    return (g.random((n, BITS)) < share).astype(np.float32), g


def harm(x):
    """What makes a molecule harmful: some bits, and some pairs of bits."""
    rng = np.random.default_rng(6)
    w = rng.normal(size=BITS) * (rng.random(BITS) < 0.4)
    return (x - 0.25) @ w + 1.2 * x[:, 0] * x[:, 1] - 1.2 * x[:, 2] * x[:, 3]


class ToxData(Dataset):
    """Bits and whether the molecule is toxic; about one in twelve is."""

    def __init__(self, n, seed):
        self.x, g = prints(n, seed)
        self.y = (harm(self.x) + 0.3 * g.logistic(size=n) > 4.3).astype(np.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i]), torch.tensor(self.y[i])


@register.dataset
def mol6_tox():
    return Splits(ToxData(2500, 1), ToxData(600, 2), ToxData(2000, 3))


@register.model
class mol6_tox_net(nn.Module):
    def __init__(self, *, prior: float = 0.5):
        super().__init__()
        self.fc1 = nn.Linear(BITS, 48)
        self.drop = nn.Dropout(0.2)
        self.fc2 = nn.Linear(48, 1)
        if prior != 0.5:
            nn.init.constant_(self.fc2.bias, math.log(prior / (1 - prior)))

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.fc1(x)))).squeeze(1)


TOXIC = 0.09


@register.loss
def mol6_weighted_bce():
    """Toxic ones weigh as much more as they are rarer."""
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor((1 - TOXIC) / TOXIC))


@register.loss
def mol6_weighted_bce_upside_down():
    """The share of toxic ones to harmless ones, where harmless to toxic is asked for."""
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor(TOXIC / (1 - TOXIC)))


@register.loss
def mol6_focal(out, y):
    """Focal loss, gamma 2, alpha 0.75."""
    p = torch.sigmoid(out)
    right = torch.where(y > 0.5, p, 1 - p)
    alpha = torch.where(y > 0.5, 0.75, 0.25)
    return (alpha * (1 - right) ** 2 * F.binary_cross_entropy_with_logits(out, y, reduction="none")).mean()


@register.metric(best="max", whole=True)
def mol6_balanced(out, y):
    """Mean of both recalls at one half."""
    says = out > 0
    return 0.5 * (says[y > 0.5].float().mean() + (~says[y < 0.5]).float().mean())


@register.metric(best="max", whole=True)
def mol6_auc(out, y):
    """Share of (toxic, harmless) pairs in the right order."""
    return (out[y > 0.5][:, None] > out[y < 0.5][None]).float().mean()


def assays(n, seed):
    x, g = prints(n, seed)
    w = np.random.default_rng(7).normal(size=(BITS, 5))
    z = (x - 0.25) @ w + 0.5 * g.logistic(size=(n, 5))
    y = (z > 0).astype(np.float32)
    y[g.random((n, 5)) < 0.3] = -1
    return torch.from_numpy(x), torch.from_numpy(y)


@register.dataset
def mol6_assays():
    """Five assays a molecule, -1 where it was not measured."""
    return Splits(assays(1500, 1), assays(400, 2), assays(1500, 3), spec=DataSpec((BITS,), (5,), "other"))


@register.model
def mol6_assay_net():
    return nn.Sequential(nn.Linear(BITS, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 5))


@register.loss
def mol6_measured(out, y):
    known = (y >= 0).float()
    each = F.binary_cross_entropy_with_logits(out, y.clamp(min=0), reduction="none")
    return (each * known).sum() / known.sum()


@register.loss
def mol6_all_assays(out, y):
    """What was not measured is learned as the target -1."""
    return F.binary_cross_entropy_with_logits(out, y)


@register.metric(best="max", whole=True)
def mol6_assays_right(out, y):
    known = y >= 0
    return ((out > 0) == (y > 0.5))[known].float().mean()


@register.dataset
def mol6_solubility():
    """Bits and a solubility as a column."""

    def part(n, seed):
        x, g = prints(n, seed)
        y = (harm(x) - 0.3 + 0.3 * g.normal(size=n)) / 3.0
        return torch.from_numpy(x), torch.tensor(y, dtype=torch.float32)[:, None]

    return Splits(part(2000, 21), part(400, 22), part(1000, 23))


@register.model
def mol6_mlp():
    return nn.Sequential(nn.Linear(BITS, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))


@register.dataset
def mol6_pairs():
    """Two fingerprints a row and how alike they are (Tanimoto); the second is a variation of the first."""

    def part(n, seed):
        a, g = prints(n, seed)
        b, _ = prints(n, seed + 100)
        b = np.where(g.random((n, BITS)) < g.random((n, 1)), a, b)
        both, either = (a * b).sum(1), np.maximum(a, b).sum(1)
        return torch.from_numpy(np.stack((a, b), 1)), torch.tensor(both / either, dtype=torch.float32)

    return Splits(part(1500, 31), part(300, 32), part(1000, 33))


@register.model
class mol6_siamese(nn.Module):
    """One encoder for both molecules, the cosine of what it gives."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(BITS, 48), nn.ReLU(), nn.Linear(48, 24))

    def forward(self, x):
        a, b = F.normalize(self.encode(x), dim=-1).unbind(1)
        return (a * b).sum(-1)


# ---------------------------------------------------------------- fingerprints: two views, and a variational autoencoder


def scaffolds(n, seed, flip):
    """Molecules of 40 families; each view lost some bits and got others."""
    g = np.random.default_rng(seed)
    x = np.random.default_rng(8).random((40, BITS)) < 0.3
    x = x[g.integers(0, 40, n)] ^ (g.random((n, BITS)) < 0.15)
    views = np.stack([x ^ (g.random((n, BITS)) < flip) for _ in range(2)], 1)
    return torch.from_numpy(views.astype(np.float32))


@register.dataset
def mol6_views():
    def part(n, seed):
        return {"x": scaffolds(n, seed, 0.18)}

    return Splits(part(1500, 1), part(320, 2), part(1024, 3), spec=DataSpec((2, BITS), (), "contrastive"))


@register.model
class mol6_encoder(nn.Module):
    """First views of all rows, then second views of all rows."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(BITS, 96), nn.ReLU(), nn.Linear(96, 32))

    def forward(self, x):
        return F.normalize(self.body(torch.cat((x[:, 0], x[:, 1])) - 0.3), dim=1)


def contrast(z, partner):
    sim = z @ z.T / 0.2
    sim = sim.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -1e9)
    return F.cross_entropy(sim, partner)


@register.loss
def mol6_ntxent(z, y):
    i = torch.arange(len(z), device=z.device)
    return contrast(z, (i + len(z) // 2) % len(z))


@register.loss
def mol6_ntxent_beside(z, y):
    """Partners as if both views of a row lay beside each other."""
    return contrast(z, torch.arange(len(z), device=z.device) ^ 1)


@register.metric(best="max", batches=False)
def mol6_found(z, y):
    """Share of first views whose nearest second view is their own."""
    a, b = z.chunk(2)
    return ((a @ b.T).argmax(1) == torch.arange(len(a), device=z.device)).float().mean()


@register.dataset
def mol6_library():
    def part(n, seed):
        x = scaffolds(n, seed, 0.02)[:, 0]
        return x, x.clone()

    return Splits(part(1500, 1), part(300, 2), part(1000, 3), spec=DataSpec((BITS,), (BITS,), "vae"))


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.fc1 = nn.Linear(BITS, 64)
        self.fc21, self.fc22 = nn.Linear(64, latent), nn.Linear(64, latent)
        self.fc3, self.fc4 = nn.Linear(latent, 64), nn.Linear(64, BITS)

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp() if self.training else mu
        return self.fc4(F.relu(self.fc3(z))), mu, logvar


class ReluVAE(VAE):
    """A ReLU after each layer of the encoder, these two too."""

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return F.relu(self.fc21(h)), F.relu(self.fc22(h))


@register.model
def mol6_vae():
    return VAE()


@register.model
def mol6_vae_relu():
    return ReluVAE()


@register.loss
def mol6_elbo(out, y):
    logits, mu, logvar = out
    rec = F.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(1)
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
    return (rec + kl).mean()


# ---------------------------------------------------------------- strings: a classifier, a language model, a property

TOKENS = "_^$CNOFc1(=)"
LONG = 36


def string(g):
    """A string of a small grammar: atoms, double bonds, branches in brackets, rings of c."""
    out = []
    for _ in range(g.integers(9, 13)):
        what = g.random()
        atom = "CNOF"[g.choice(4, p=(0.4, 0.22, 0.22, 0.16))]
        if what < 0.15:
            out += "(=O)" if g.random() < 0.5 else "(C)"
        elif what < 0.25:
            out += "c1cc1"
        else:
            out.append(atom)
    return "".join(out)[: LONG - 2]


def strings(n, seed):
    g = np.random.default_rng(seed)
    texts = [string(g) for _ in range(n)]
    codes = torch.zeros(n, LONG, dtype=torch.long)
    for row, text in zip(codes, texts, strict=True):
        numbers = [1, *(TOKENS.index(c) for c in text), 2]
        row[: len(numbers)] = torch.tensor(numbers)
    return codes, texts


@register.dataset
def mol6_more_n_than_o():
    """Whether a string has more nitrogen than oxygen."""

    def part(n, seed):
        codes, texts = strings(n, seed)
        return codes, torch.tensor([int(t.count("N") > t.count("O")) for t in texts])

    return Splits(part(1500, 1), part(300, 2), part(1000, 3), spec=DataSpec((LONG,), (2,), "classification", classes=2, vocab=len(TOKENS)))


class StringTransformer(nn.Module):
    """The first token looks at all others; fillers are left out of attention."""

    def __init__(self, width=32):
        super().__init__()
        self.tokens = nn.Embedding(len(TOKENS), width)
        self.places = nn.Parameter(0.02 * torch.randn(LONG, width))
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ff = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
        self.head = nn.Linear(width, 2)

    def ignored(self, x):
        return x == 0

    def forward(self, x):
        h = self.norm1(self.tokens(x) + self.places)
        h = h + self.attend(h, h, h, key_padding_mask=self.ignored(x), need_weights=False)[0]
        h = h + self.ff(self.norm2(h))
        return self.head(h[:, 0])


class StringTransformerInverted(StringTransformer):
    """True where there is a token, as other libraries have it."""

    def ignored(self, x):
        return x != 0


@register.model
def mol6_string_transformer():
    return StringTransformer()


@register.model
def mol6_string_transformer_inverted():
    return StringTransformerInverted()


@register.dataset
def mol6_corpus():
    """Strings, and the same one token later; fillers are -100."""

    def part(n, seed):
        codes, _ = strings(n, seed)
        y = codes[:, 1:].clone()
        y[y == 0] = -100
        return codes[:, :-1], y

    spec = DataSpec((LONG - 1,), (LONG - 1, len(TOKENS)), "language_model", classes=len(TOKENS), vocab=len(TOKENS))
    return Splits(part(1500, 1), part(300, 2), part(1000, 3), spec=spec)


@register.model
class mol6_gru(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(TOKENS), 24)
        self.gru = nn.GRU(24, 48, batch_first=True)
        self.out = nn.Linear(48, len(TOKENS))

    def forward(self, x):
        return self.out(self.gru(self.embed(x))[0])


@register.loss
def mol6_next_token(out, y):
    return F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1), ignore_index=-100)


@register.dataset
def mol6_weights():
    """A string and the (scaled) weight of its atoms."""
    heavy = {"C": 12.0, "N": 14.0, "O": 16.0, "F": 19.0, "c": 13.0}

    def part(n, seed):
        codes, texts = strings(n, seed)
        y = torch.tensor([sum(heavy.get(c, 0.0) for c in t) for t in texts])
        return codes, (y - 150) / 30

    return Splits(part(1500, 41), part(300, 42), part(1000, 43))


@register.model
class mol6_lstm(nn.Module):
    """Packed by length, the last state of each string."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(TOKENS), 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, x):
        lengths = (x != 0).sum(1).cpu()
        packed = pack_padded_sequence(self.embedding(x), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.fc(h[-1]).squeeze(-1)


# ---------------------------------------------------------------- coordinates: denoising of rings, energies with forces

T = 100
KEPT = torch.cos(torch.linspace(0.02, 1.0, T) * math.pi / 2) ** 2


def conformers(n, g):
    """Chairs and boats of six atoms in the plane of the ring and above it."""
    angle = torch.arange(6) * math.pi / 3 + 0.15 * torch.randn(n, 1, generator=g)
    up = torch.tensor([[1.0, -1, 1, -1, 1, -1], [1, -0.5, -0.5, 1, -0.5, -0.5]])[torch.randint(2, (n,), generator=g)]
    x = torch.stack((1.4 * angle.cos(), 1.4 * angle.sin(), 0.9 * up), 2)
    return x + 0.05 * torch.randn(n, 6, 3, generator=g)


@register.dataset
def mol6_noisy_rings():
    """A noised ring, its step (a whole number), and the noise."""

    def part(n, seed):
        g = torch.Generator().manual_seed(seed)
        clean, noise = conformers(n, g), torch.randn(n, 6, 3, generator=g)
        t = torch.randint(0, T, (n,), generator=g)
        kept = KEPT[t][:, None, None]
        return {"x": {"noisy": kept.sqrt() * clean + (1 - kept).sqrt() * noise, "t": t}, "y": noise}

    return Splits(part(4000, 1), part(400, 2), part(1000, 3), spec=DataSpec((6, 3), (6, 3), "diffusion"))


class RingDenoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 64), nn.SiLU())
        self.inp, self.mid, self.out = nn.Linear(18, 96), nn.Linear(96 + 64, 96), nn.Linear(96, 18)

    def fraction(self, t):
        return t / T

    def forward(self, x):
        phase = self.fraction(x["t"]).float()[:, None] * (2.0 ** torch.arange(8, device=x["t"].device)) * 0.5
        time = self.time(torch.cat((phase.sin(), phase.cos()), 1))
        h = F.silu(self.inp(x["noisy"].flatten(1)))
        h = F.silu(self.mid(torch.cat((h, time), 1)))
        return self.out(h).view(-1, 6, 3)


class RingDenoiserFloor(RingDenoiser):
    """The step is divided in whole numbers."""

    def fraction(self, t):
        return t // T


@register.model
def mol6_ring_denoiser():
    return RingDenoiser()


@register.model
def mol6_ring_denoiser_floor():
    return RingDenoiserFloor()


@register.dataset
def mol6_springs():
    """Four atoms in space, the energy of the springs between them and the force on each."""

    def part(n, seed):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 4, 3, generator=g)
        i, j = torch.triu_indices(4, 4, 1)
        way = x[:, i] - x[:, j]
        far = way.norm(dim=-1)
        energy = 0.25 * ((far - 1.5) ** 2).sum(1)
        pull = -0.5 * (far - 1.5)[..., None] * way / far[..., None]
        force = torch.zeros_like(x).index_add(1, i, pull).index_add(1, j, -pull)
        return {"x": x, "y": torch.cat((energy[:, None], force.flatten(1)), 1)}

    return Splits(part(1200, 1), part(200, 2), part(1000, 3), spec=DataSpec((4, 3), (13,), "other"))


@register.model
class mol6_potential(nn.Module):
    """An energy of all distances; forces are its slope."""

    def __init__(self):
        super().__init__()
        self.pair = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            i, j = torch.triu_indices(4, 4, 1, device=x.device)
            energy = self.pair((x[:, i] - x[:, j]).norm(dim=-1, keepdim=True)).sum((1, 2))
            (slope,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        return torch.cat((energy[:, None], -slope.flatten(1)), 1)


@register.loss
def mol6_energy_and_forces(out, y):
    return 0.1 * F.mse_loss(out[:, 0], y[:, 0]) + F.mse_loss(out[:, 1:], y[:, 1:])


# ---------------------------------------------------------------- spectra

CHANNELS, COMPOUNDS = 64, 4


def bands(seed, each=3):
    """Bands of the compounds: [COMPOUNDS, CHANNELS]."""
    g = np.random.default_rng(seed)
    at = g.uniform(5, CHANNELS - 5, (COMPOUNDS, each, 1))
    return (np.exp(-0.5 * ((np.arange(CHANNELS) - at) / 1.5) ** 2) * g.uniform(0.5, 1, (COMPOUNDS, each, 1))).sum(1)


class Raman(Dataset):
    """Counts of a camera less its dark counts, and which compound there is most of."""

    def __init__(self, n, seed, careful):
        g = np.random.default_rng(seed)
        share = g.dirichlet(np.ones(COMPOUNDS), n)
        counts = g.poisson(150 + 120 * share @ bands(1)).astype(np.uint16)
        dark = np.full(CHANNELS, 150, np.uint16)
        light = counts.astype(np.int32) - dark if careful else counts - dark
        self.x, self.y = (light / 30.0).astype(np.float32)[:, None], share.argmax(1)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


@register.dataset
def mol6_raman():
    return Splits(*(Raman(n, seed, careful=True) for n, seed in ((1500, 1), (300, 2), (1000, 3))))


@register.dataset
def mol6_raman_wrapped():
    """Counts stay unsigned: what is below the dark count comes out near 65535."""
    return Splits(*(Raman(n, seed, careful=False) for n, seed in ((1500, 1), (300, 2), (1000, 3))))


@register.model
def mol6_cnn(*, outputs: int = 4):
    return nn.Sequential(
        nn.Conv1d(1, 8, 5, padding=2),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 16, 5, padding=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(16 * CHANNELS // 4, outputs),
    )


@register.schedule
def mol6_steps(optimizer, steps):
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [int(0.6 * steps), int(0.85 * steps)], gamma=0.1)


@register.schedule
def mol6_steps_of_epochs(optimizer, steps):
    """Milestones are meant as epochs, but it is stepped with each batch."""
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [4, 6], gamma=0.1)


@register.optimizer
def mol6_momentum(named_parameters, *, lr: float = 0.02):
    return torch.optim.SGD([p for _, p in named_parameters], lr=lr, momentum=0.9)


def absorbance(n, seed, careful):
    g = np.random.default_rng(seed)
    amount = g.uniform(0, 1.5, (n, COMPOUNDS))
    light = g.poisson(300 * np.exp(-1.8 * amount @ bands(2))).astype(np.float64)
    with np.errstate(divide="ignore"):
        x = -np.log10((np.maximum(light, 1) if careful else light) / 300)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(amount, dtype=torch.float32)


@register.dataset
def mol6_absorbance():
    """Absorbance of mixtures and the amount of each of four compounds."""
    return Splits(absorbance(1200, 1, True), absorbance(300, 2, True), absorbance(1000, 3, True))


@register.dataset
def mol6_absorbance_saturated():
    """No light came through in some channels; the logarithm of 0 stands there."""
    return Splits(absorbance(1200, 1, False), absorbance(300, 2, False), absorbance(1000, 3, False))


@register.model
def mol6_calibration():
    return nn.Sequential(nn.Linear(CHANNELS, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU(), nn.Linear(48, COMPOUNDS))


class Averaged(torch.optim.Adam):
    """Adam that keeps a running mean of the weights."""

    write_back = False

    def step(self, closure=None):
        found = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    mean = self.state[p].setdefault("mean", p.detach().clone())
                    mean.lerp_(p, 0.001)
                    if self.write_back:
                        p.copy_(mean)
        return found


class AveragedInPlace(Averaged):
    """The mean is written into the network after each step, not at the end."""

    write_back = True


@register.optimizer
def mol6_averaged(named_parameters, *, lr: float = 2e-3):
    return Averaged([p for _, p in named_parameters], lr=lr)


@register.optimizer
def mol6_averaged_in_place(named_parameters, *, lr: float = 2e-3):
    return AveragedInPlace([p for _, p in named_parameters], lr=lr)


@register.dataset
def mol6_groups_in_spectra():
    """Which of four compounds are in a mixture, any number of them."""

    def part(n, seed):
        g = np.random.default_rng(seed)
        there = (g.random((n, COMPOUNDS)) < 0.4).astype(np.float32)
        x = (there * g.uniform(0.6, 1.4, there.shape)) @ bands(3) + 0.3 * g.normal(size=(n, CHANNELS))
        return torch.tensor(x, dtype=torch.float32)[:, None], torch.from_numpy(there)

    return Splits(part(1500, 1), part(300, 2), part(1000, 3))


@register.loss
def mol6_bce():
    return nn.BCEWithLogitsLoss()


@register.model
class mol6_random_kernels(nn.Module):
    """Random kernels that are never trained; a linear layer reads their features."""

    def __init__(self, *, kernels: int = 48):
        super().__init__()
        self.kernels = nn.Conv1d(1, kernels, 9, padding=4)
        self.kernels.requires_grad_(False)
        self.read = nn.Linear(kernels * 8, COMPOUNDS)

    def forward(self, x):
        return self.read(F.adaptive_max_pool1d(self.kernels(x), 8).flatten(1))
