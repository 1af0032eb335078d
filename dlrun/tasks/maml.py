"""Model-agnostic meta-learning: weights from which a few gradient steps on a few points of a new task lead far.

Source: Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", section 2.2, eq. 1, algorithm 2;
first-order variant: section 5.2. Joint training on all tasks, to which it is compared: section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dlrun.batch import Batch
from dlrun.errors import UsageError
from dlrun.noise import Noise
from dlrun.ranges import Index, Positive
from dlrun.task import LossTask
from dlrun.types import DataSpec, Look, Mean, Networks, Whole

ROWS = ("support_x", "support_y", "query_x", "query_y")
SHOWN = 4


class maml(LossTask):
    """A row is a task: support_x [B, K, ...], support_y to adapt to, query_x [B, Q, ...], query_y to be judged on.

    Each task has fast weights, theta' = theta - inner_lr x gradient of its support loss, `inner_steps` times; the loss is that of the
    queries of all tasks, its gradient with respect to theta goes through these steps. Without any it is joint training on all tasks.
    """

    kind = "other"

    def __init__(self, *, inner_steps: Index, inner_lr: Positive, first_order: bool, steps_shown: list[Index]) -> None:
        self.inner_steps, self.inner_lr, self.first_order, self.steps_shown = inner_steps, inner_lr, first_order, sorted(set(steps_shown))

    def default_loss(self, spec: DataSpec) -> str | None:
        """Squared error."""
        return "mse"

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """Raises UsageError for rows that are no tasks."""
        if not set(ROWS) <= set(batch):
            raise UsageError(f"task maml reads rows that are tasks, {', '.join(ROWS)}; this dataset gives {', '.join(batch)}")
        return batch

    def adapted(self, nets: Networks, x: Tensor, y: Tensor, fast: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
        """Fast weights of one task, x [K, ...] and y [K, ...], after `steps` more steps (eq. 1)."""

        def loss(weights: dict[str, Tensor]) -> Tensor:
            return self.criterion(nets.model(x, parameters=weights), y)  # type: ignore[no-any-return]

        for _ in range(steps):
            gradients = torch.func.grad(loss)(dict(fast))
            if self.first_order:
                gradients = {name: gradient.detach() for name, gradient in gradients.items()}
            fast = {name: weight - self.inner_lr * gradients[name] for name, weight in fast.items()}
        return dict(fast)

    def predictions(self, nets: Networks, batch: Batch, x: Tensor, after: list[int]) -> list[Tensor]:
        """What tasks [B] give at their points x [B, N, ...] after so many inner steps, ascending: one [B, N, ...] for each."""
        theta = dict(nets.model.named_parameters())

        def one(support_x: Tensor, support_y: Tensor, points: Tensor) -> tuple[Tensor, ...]:
            fast, done, found = theta, 0, []
            for steps in after:
                fast, done = self.adapted(nets, support_x, support_y, fast, steps - done), steps
                found.append(nets.model(points, parameters=fast))
            return tuple(found)

        return list(torch.func.vmap(one, randomness="different")(batch["support_x"], batch["support_y"], x))

    def outputs(self, nets: Networks, batch: Batch) -> Tensor:
        """Predictions [B, Q, ...] at the queries, each by its task's fast weights."""
        return self.predictions(nets, batch, batch["query_x"], [self.inner_steps])[0]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean over tasks and queries."""
        return self.criterion(outputs, batch["query_y"])  # type: ignore[no-any-return]

    def evaluate(self, nets: Networks, batch: Batch) -> Mapping[str, Mean | Whole]:
        """Loss, and `after_<s>`: the queries' loss after each number of inner steps in `steps_shown`."""
        after = sorted({self.inner_steps, *self.steps_shown})
        found = self.predictions(nets, batch, batch["query_x"], after)
        means = {
            steps: Mean(self.loss(out, batch).double() * len(batch), float(len(batch))) for steps, out in zip(after, found, strict=True)
        }
        return {"loss": means[self.inner_steps], **{f"after_{steps}": means[steps] for steps in self.steps_shown}}

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Of tasks on a line: points they know, and their curves before and after adaptation."""
        if batch["query_x"].dim() != 3 or batch["query_x"].shape[2] != 1:
            return {}
        first = batch[:SHOWN]
        low, high = (float(edge) for edge in batch["query_x"].aminmax())
        line = torch.linspace(low, high, 101, device=first["query_x"].device)[None, :, None].expand(len(first), -1, -1)
        after = self.predictions(nets, first, line, self.steps_shown)
        looks = {}
        for task in range(len(first)):
            x, y = first["support_x"][task, :, 0], first["support_y"][task, :, 0]
            known = {"the points it knows, joined": (x.sort().values.tolist(), y[x.argsort()].tolist())}
            made = {
                f"after {s} steps": (line[task, :, 0].tolist(), y[task, :, 0].tolist())
                for s, y in zip(self.steps_shown, after, strict=True)
            }
            looks[f"task_{task}"] = Look(
                "lines", {**known, **made, "xlabel": "x", "ylabel": "y"}, f"task {task} before and after inner steps"
            )
        return looks
