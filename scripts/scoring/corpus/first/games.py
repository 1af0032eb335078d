"""Mazes, arms, pairs, pupils, deliveries: small set-ups that are neither classes nor numbers. See games.yaml."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset

from dlrun import DataSpec, Splits, register


@register.optimizer
def gam4_adam(named_parameters, *, lr: float = 3e-3):
    return torch.optim.Adam([p for _, p in named_parameters], lr=lr)


# ---------------------------------------------------------------- arms: what a logged choice paid


def logged(n, seed):
    """Contexts, the arm that was pulled (in a column, as a replay buffer has it), what it paid."""
    world = np.random.default_rng(70)
    to_arm, taste = world.normal(size=(6, 5)), world.normal(size=(6, 5))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    pay = np.tanh(x @ to_arm) + 0.5 * np.abs(x @ taste) / 2
    arm = (x @ taste * 0.5 + rng.gumbel(size=(n, 5))).argmax(1)[:, None]
    reward = np.take_along_axis(pay, arm, 1) + rng.normal(0, 0.1, (n, 1))
    return {"x": torch.from_numpy(x).float(), "y": {"arm": torch.from_numpy(arm), "reward": torch.from_numpy(reward).float()}}


@register.dataset
def gam4_log():
    return Splits(logged(2500, 1), logged(400, 2), logged(1500, 3), spec=DataSpec((6,), (5,), "other"))


@register.model
def gam4_values():
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))


@register.loss
def gam4_paid(out, y):
    return F.smooth_l1_loss(out.gather(1, y["arm"]), y["reward"])


@register.loss
def gam4_paid_down(out, y):
    """Gathers along the batch: the arm's number picks a row, always in the first column."""
    return F.smooth_l1_loss(out.gather(0, y["arm"]), y["reward"])


# ---------------------------------------------------------------- mazes: the first step of a shortest way

SIDE = 6
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]  # up, down, left, right


def maze(rng):
    """(planes of walls, me and goal; the first step of a shortest way), or None where there is no way."""
    wall = rng.random((SIDE, SIDE)) < 0.2
    free = np.argwhere(~wall)
    me, goal = (tuple(int(v) for v in place) for place in rng.permutation(free)[:2])
    far, todo = {goal: 0}, deque([goal])
    while todo:
        here = todo.popleft()
        for step in MOVES:
            there = (here[0] + step[0], here[1] + step[1])
            if min(there) >= 0 and max(there) < SIDE and not wall[there] and there not in far:
                far[there] = far[here] + 1
                todo.append(there)
    if me not in far:
        return None
    ways = [far.get((me[0] + step[0], me[1] + step[1]), 99) for step in MOVES]
    board = np.zeros((3, SIDE, SIDE), dtype="float32")
    board[0], board[1][me], board[2][goal] = wall, 1, 1
    return board, int(np.argmin(ways))


class Mazes(Dataset):
    """Boards and moves. `mirror`: half of the readings are mirrored left to right, and with them the moves if `moves_too`."""

    def __init__(self, n, seed, mirror=False, moves_too=True):
        rng = np.random.default_rng(seed)
        found = []
        while len(found) < n:
            one = maze(rng)
            if one is not None:
                found.append(one)
        self.boards = torch.from_numpy(np.stack([board for board, _ in found]))
        self.moves, self.mirror, self.moves_too = [move for _, move in found], mirror, moves_too

    def __len__(self):
        return len(self.moves)

    def __getitem__(self, i):
        board, move = self.boards[i], self.moves[i]
        if self.mirror and torch.rand(()) < 0.5:
            board = board.flip(2)
            if self.moves_too:
                move = [0, 1, 3, 2][move]
        return board, move


def maze_splits(moves_too):
    spec = DataSpec((3, SIDE, SIDE), (4,), "classification", classes=4)
    return Splits(Mazes(1800, 1, True, moves_too), Mazes(300, 2), Mazes(1000, 3), spec=spec)


@register.dataset
def gam4_mazes():
    """A mirrored board comes with the mirrored move."""
    return maze_splits(True)


@register.dataset
def gam4_mazes_moves_kept():
    """A mirrored board comes with the move of the board as it was."""
    return maze_splits(False)


@register.model
class gam4_walker(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(24 * SIDE * SIDE, 64), nn.Linear(64, 4)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


# ---------------------------------------------------------------- pairs: two sides of one thing


def sides(n, seed):
    """Two readings of the same hidden thing by different instruments."""
    world = np.random.default_rng(31)
    left, right = world.normal(size=(5, 20)), world.normal(size=(5, 12))
    rng = np.random.default_rng(seed)
    thing = rng.normal(size=(n, 5))
    a = np.tanh(thing @ left) + rng.normal(0, 0.3, (n, 20))
    b = np.cos(thing @ right / 2) + thing @ right / 3 + rng.normal(0, 0.3, (n, 12))
    return {"x": {"a": torch.from_numpy(a).float(), "b": torch.from_numpy(b).float()}}


@register.dataset
def gam4_sides():
    return Splits(sides(2500, 1), sides(400, 2), sides(1500, 3), spec=DataSpec((20,), (16,), "contrastive"))


@register.model
class gam4_two_towers(nn.Module):
    """One tower a side; what comes out is stacked, all of a and then all of b."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))
        self.b = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x):
        return F.normalize(torch.cat((self.a(x["a"]), self.b(x["b"]))), dim=1)


def both_ways(out, scale):
    a, b = out.chunk(2)
    alike = scale * (a @ b.T)
    which = torch.arange(len(a), device=out.device)
    return (F.cross_entropy(alike, which) + F.cross_entropy(alike.T, which)) / 2


@register.loss
def gam4_finds_its_other(out, y):
    return both_ways(out, 1 / 0.1)


@register.loss
def gam4_finds_its_other_tepidly(out, y):
    """Multiplied by the temperature, not divided."""
    return both_ways(out, 0.1)


# ---------------------------------------------------------------- a pupil that repeats a teacher's doubts


@register.dataset
def gam4_lessons():
    """Questions and a teacher's probabilities."""
    g = torch.Generator().manual_seed(12)
    first, second = torch.randn(10, 32, generator=g) / math.sqrt(10), torch.randn(32, 6, generator=g) / math.sqrt(32)

    def rows(n, seed):
        x = torch.randn(n, 10, generator=torch.Generator().manual_seed(seed))
        return x, (3 * torch.tanh(2 * x @ first) @ second).softmax(1)

    return Splits(rows(2500, 1), rows(400, 2), rows(1500, 3), spec=DataSpec((10,), (6,), "other"))


@register.model
def gam4_pupil():
    return nn.Sequential(nn.Linear(10, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 6))


@register.loss
def gam4_distil(out, y):
    return F.kl_div(F.log_softmax(out, dim=1), y, reduction="batchmean")


@register.loss
def gam4_distil_unlogged(out, y):
    """The first argument is a probability, where its logarithm is wanted."""
    return F.kl_div(F.softmax(out, dim=1), y, reduction="batchmean")


# ---------------------------------------------------------------- deliveries: how long, and is anyone at home?


def deliveries(n, seed, scaled):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8))
    seconds = 2100 + 400 * x[:, 0] + 300 * x[:, 1] * (x[:, 2] > 0) + 250 * np.sin(2 * x[:, 3]) + rng.normal(0, 80, n)
    home = (x[:, 4] * x[:, 5] + x[:, 6] + 0.6 * np.abs(x[:, 7]) - 0.5 + rng.normal(0, 0.2, n) > 0).astype("float32")
    if scaled:
        seconds = (seconds - 2100) / 500
    return {"x": torch.tensor(x).float(), "y": {"home": torch.tensor(home), "time": torch.tensor(seconds).float()}}


def delivery_splits(scaled):
    return Splits(*(deliveries(n, seed, scaled) for n, seed in ((2500, 1), (400, 2), (1500, 3))), spec=DataSpec((8,), (), "other"))


@register.dataset
def gam4_rounds():
    """Times in standard units."""
    return delivery_splits(True)


@register.dataset
def gam4_rounds_in_seconds():
    """Times in seconds."""
    return delivery_splits(False)


class Rounds(nn.Module):
    """A trunk, a head for the time and one for whether anybody opens."""

    def __init__(self, width=32):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.time, self.home = nn.Linear(width, 1), nn.Linear(width, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.home(h).squeeze(1), self.time(h).squeeze(1)


@register.model
def gam4_courier():
    return Rounds()


@register.loss
def gam4_time_and_home(out, y):
    home, time = out
    return F.binary_cross_entropy_with_logits(home, y["home"]) + F.mse_loss(time, y["time"])


@register.metric(best="max")
def gam4_foretells_home(out, y):
    return ((out > 0) == (y["home"] > 0.5)).float().mean()


@register.model
class gam4_doubtful_courier(Rounds):
    """Learns how much either answer is to count."""

    def __init__(self):
        super().__init__()
        self.log_var = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return (*super().forward(x), self.log_var)


@register.loss
def gam4_weighed_by_doubt(out, y):
    """Each term over twice its variance, plus half the variance's logarithm."""
    home, time, log_var = out
    terms = torch.stack((2 * F.binary_cross_entropy_with_logits(home, y["home"]), F.mse_loss(time, y["time"])))
    return 0.5 * (terms * (-log_var).exp() + log_var).sum()


# ---------------------------------------------------------------- a risk, of which only the order counts


@register.dataset
def gam4_patients():
    """Eight readings; when something happened, or until when it had not."""

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, 8))
        risk = 0.9 * x[:, 0] - 0.7 * x[:, 1] + 0.6 * x[:, 2] * x[:, 3]
        happens, leaves = rng.exponential(np.exp(-risk)), rng.exponential(2.0, n)
        y = {"time": torch.tensor(np.minimum(happens, leaves)).float(), "event": torch.tensor(happens <= leaves)}
        return {"x": torch.tensor(x).float(), "y": y}

    return Splits(rows(2000, 1), rows(400, 2), rows(1500, 3), spec=DataSpec((8,), (1,), "other"))


@register.model
def gam4_hazard():
    """A readout without bias, which would not count."""
    return nn.Sequential(nn.Linear(8, 32), nn.SELU(), nn.Linear(32, 32), nn.SELU(), nn.Linear(32, 1, bias=False))


@register.loss
def gam4_cox(out, y):
    """Minus the log partial likelihood within the batch."""
    order = y["time"].argsort(descending=True)
    risk, event = out.squeeze(1)[order], y["event"][order]
    return -((risk - risk.logcumsumexp(0)) * event).sum() / event.sum().clamp(min=1)


# ---------------------------------------------------------------- everyday: a paddle, ratings, and faces apart by an angle


@register.dataset
def gam4_paddle():
    """Where the ball is and flies, where the paddle is: up, stay or down."""

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        x, y, v, paddle = rng.uniform(0, 1, n), rng.uniform(-1, 1, n), rng.uniform(-2, 2, n), rng.uniform(-1, 1, n)
        lands = (y + v * (1 - x) + 1) % 4
        lands = np.where(lands > 2, 4 - lands, lands) - 1  # bounces off both walls
        action = 1 + (lands - paddle > 0.2).astype(int) - (lands - paddle < -0.2).astype(int)
        return torch.tensor(np.stack((x, y, v, paddle), 1)).float(), torch.tensor(action)

    return Splits(rows(3000, 1), rows(500, 2), rows(1000, 3))


@register.model
class gam4_player(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 64), nn.Linear(64, 64), nn.Linear(64, 3)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


VIEWERS, FILMS = 120, 90


class Ratings(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, idx):
        viewer, film, stars = self.rows[idx]
        return torch.tensor([viewer, film]), torch.tensor(stars, dtype=torch.float32)


@register.dataset
def gam4_stars():
    """One to five stars for some films by some viewers, no pair twice."""
    rng = np.random.default_rng(17)
    viewer, film = np.divmod(rng.permutation(VIEWERS * FILMS)[:8000], FILMS)
    p, q = rng.normal(size=(VIEWERS, 2)), rng.normal(size=(FILMS, 2))
    mild, fame = rng.normal(0, 0.6, VIEWERS), rng.normal(0, 0.7, FILMS)
    felt = 3.3 + 0.4 * (p[viewer] * q[film]).sum(1) + mild[viewer] + fame[film] + rng.normal(0, 0.3, 8000)
    rows = list(zip(viewer.tolist(), film.tolist(), np.clip(np.round(felt), 1, 5).tolist(), strict=True))
    return Splits(Ratings(rows[:6000]), Ratings(rows[6000:6800]), Ratings(rows[6800:]))


@register.model
class gam4_factors(nn.Module):
    def __init__(self, *, dim: int = 8):
        super().__init__()
        self.viewer, self.film = nn.Embedding(VIEWERS, dim), nn.Embedding(FILMS, dim)
        self.mlp = nn.Sequential(nn.Linear(2 * dim, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def forward(self, x):
        h = torch.cat([self.viewer(x[:, 0]), self.film(x[:, 1])], dim=1)
        return self.mlp(h).squeeze(-1)


@register.loss
def gam4_squares(out, y):
    return F.mse_loss(out, y)


@register.dataset
def gam4_faces():
    """Points of ten people, each on a bent surface of its own."""
    world = np.random.default_rng(90)
    centre, bend = world.normal(size=(10, 16)), world.normal(size=(10, 3, 16))

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        who, pose = rng.integers(0, 10, n), rng.normal(size=(n, 3))
        x = centre[who] + 0.8 * np.einsum("nk,nkd->nd", np.tanh(pose), bend[who]) + rng.normal(0, 1.0, (n, 16))
        return torch.tensor(x).float(), torch.tensor(who)

    return Splits(rows(2000, 1), rows(300, 2), rows(1000, 3))


@register.model
class gam4_angles(nn.Module):
    """Cosines between an embedding and one direction a person."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.PReLU(), nn.Linear(64, 16, bias=False))
        self.people = nn.Parameter(torch.randn(10, 16) / 4)

    def forward(self, x):
        return F.normalize(self.embed(x), dim=1) @ F.normalize(self.people, dim=1).T


@register.loss
class gam4_arc(nn.Module):
    """The right angle is made larger by a margin before all cosines are scaled."""

    def __init__(self, *, scale: float = 16.0, margin: float = 0.3):
        super().__init__()
        self.scale, self.margin = scale, margin

    def forward(self, out, y):
        theta = out.clamp(-1 + 1e-6, 1 - 1e-6).acos()
        right = F.one_hot(y, out.shape[1]).bool()
        return F.cross_entropy(self.scale * torch.where(right, (theta + self.margin).cos(), out), y)


@register.metric(best="max")
def gam4_named(out, y):
    return (out.argmax(1) == y).float().mean()
