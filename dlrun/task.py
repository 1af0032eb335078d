"""What is learned: `Task`, and `LossTask` for the common case of one loss over the outputs of networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from dlrun.batch import Batch
from dlrun.noise import Noise
from dlrun.types import DataSpec, Look, Mean, Metric, Networks, NetworkShape, Objective, Whole, double


class Task:
    """What is learned. `objectives` yields losses; the loop applies each before it resumes the generator.

    In `objectives`, `outputs` and `evaluate` a task touches a network in one way: it calls it. Below a yield it only reads; state of its
    own that changes once a step (an EMA teacher, a queue, centres) changes in `after_step`. Never yield inside a context manager.
    """

    slots: Mapping[str, tuple[str, ...] | None] = {}
    """Groups with several slots (`{"model": ("generator", "critic")}`) or none (`{"loss": None}`); the YAML says the same."""
    couples_rows: bool = False
    """True where the loss of one row depends on the others (contrastive): accumulation is then refused."""

    turns: int | None = None
    """How many objectives a step has, where that is known: the loop then does not ask for one more (1 % of a small step). 0: no slopes."""

    spec: DataSpec
    criterion: Any
    metrics: Mapping[str, Metric]

    def bind(self, spec: DataSpec, criterion: Any, metrics: Mapping[str, Metric]) -> None:
        """Called once by the builder: the data's description, the configured loss (or None) and metrics."""
        self.spec, self.criterion, self.metrics = spec, criterion, metrics

    def default_loss(self, spec: DataSpec) -> str | None:
        """The name of the loss to build where the config names none; None if the task needs none."""
        return None

    def default_metrics(self, spec: DataSpec) -> tuple[str, ...]:
        """Names of the metrics that always go with this task on such data, the one that chooses `best` first."""
        return ()

    def networks(self, spec: DataSpec) -> Mapping[str, NetworkShape]:
        """The networks the task trains and the shapes of one row of their input and output."""
        return {"model": NetworkShape(spec.in_shape, spec.out_shape)}

    def start(self, nets: Networks) -> None:
        """Once, after the networks are built and before the first step: make state of the task's own."""

    def prepare(self, batch: Batch, noise: Noise) -> Batch:
        """All that is random or masked outside the networks; runs for every micro-batch of a step before the first forward."""
        return batch

    def objectives(self, nets: Networks, batch: Batch) -> Iterator[Objective]:
        """Losses for one prepared batch, in order; a yield means `apply this now`."""
        return iter(())

    def measure(self, outputs: Any, batch: Batch) -> Mapping[str, Mean | Whole]:
        """Metrics of a training batch, from the outputs its objective carried; called at logged steps only, without gradients."""
        return {}

    def evaluate(self, nets: Networks, batch: Batch) -> Mapping[str, Mean | Whole]:
        """What one prepared batch adds to a split's metrics, networks in eval mode, without gradients."""
        return {}

    def after_step(self, nets: Networks, batches: Sequence[Batch]) -> None:
        """Once a step, after all its objectives."""

    def expected_initial_loss(self, spec: DataSpec) -> float | None:
        """The loss of an untrained, unbiased network in nats (ln C for C classes), or None where there is no such value."""
        return None

    def loss_floor(self, spec: DataSpec) -> float | None:
        """The least loss there can be, or None where it is unknown."""
        return None

    def look(self, nets: Networks, batch: Batch) -> Mapping[str, Look]:
        """Pictures or texts that show what the networks do."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State of the task's own: tensors and plain JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if state:
            raise ValueError(f"task {type(self).__name__} keeps no state, the checkpoint holds {', '.join(state)}")


class LossTask(Task):
    """One loss over the outputs of networks, in parts that checks and metrics can take to pieces. Only `loss` is required.

    `outputs` is a pure function of networks and prepared batch, rows first; `loss` is pure and touches no network.
    """

    @property
    def turns(self) -> int | None:  # type: ignore[override]
        """One, unless a subclass yields objectives of its own."""
        return 1 if type(self).objectives is LossTask.objectives else None

    def outputs(self, nets: Networks, batch: Batch) -> Any:
        """What the networks make of a prepared batch, rows on axis 0."""
        return nets.model(batch["x"])

    def loss(self, outputs: Any, batch: Batch) -> Tensor | tuple[Tensor, Mapping[str, Tensor]]:
        """The mean loss over `count(batch)` units, or (loss, terms to log)."""
        return self.criterion(outputs, batch["y"])  # type: ignore[no-any-return]

    def count(self, batch: Batch) -> Tensor | float:
        """How many units the loss is a mean over."""
        return float(len(batch))

    def logits(self, outputs: Any) -> Tensor:
        """The tensor in `outputs` that metrics read."""
        first: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        return first

    def of_loss(self, loss: Tensor | float, count: Tensor | float) -> Mapping[str, Mean]:
        """Metrics that are known with the loss, a mean over `count` units; `measure` and `evaluate` leave these out."""
        return {}

    def objectives(self, nets: Networks, batch: Batch) -> Iterator[Objective]:
        """One objective that updates every network."""
        outputs = self.outputs(nets, batch)
        loss, terms = _with_terms(self.loss(outputs, batch))
        yield Objective(loss, tuple(nets), self.count(batch), terms, outputs)

    def compared(self, outputs: Any, batch: Batch) -> tuple[Any, Any, int]:
        """(outputs, targets, rows) as metrics get them."""
        logits, y = in_own_unit(self.spec, self.logits(outputs), batch.get("y"))
        return logits, y, len(batch)

    def measure(self, outputs: Any, batch: Batch) -> Mapping[str, Mean | Whole]:
        """The configured metrics that say something of one batch."""
        logits, y, rows = self.compared(outputs, batch)
        known = self.of_loss(0.0, 1.0)
        return {
            name: metric(logits, y, rows)
            for name, metric in self.metrics.items()
            if metric.batches and not metric.whole and name not in known
        }

    def evaluate(self, nets: Networks, batch: Batch) -> Mapping[str, Mean | Whole]:
        """Loss, its terms and the configured metrics."""
        outputs = self.outputs(nets, batch)
        loss, terms = _with_terms(self.loss(outputs, batch))
        count = double(self.count(batch))
        means: dict[str, Mean | Whole] = {"loss": Mean(double(loss) * count, count)}
        means.update({name: Mean(double(term) * count, count) for name, term in terms.items()})
        logits, y, rows = self.compared(outputs, batch)
        known = self.of_loss(double(loss), count)
        return {**means, **{name: known[name] if name in known else metric(logits, y, rows) for name, metric in self.metrics.items()}}


def in_own_unit(spec: DataSpec, out: Any, y: Any) -> tuple[Any, Any]:
    """(out, y) as metrics read them: where the dataset standardised y, both in the target's own unit again; else as they are.

    Outputs whose shape is not the targets' predict something else and stay as they are, and so does y.
    """
    if spec.target_std is None or not isinstance(out, Tensor) or not isinstance(y, Tensor) or out.shape != y.shape:
        return out, y
    return spec.own_unit(out), spec.own_unit(y)


def _with_terms(loss: Tensor | tuple[Tensor, Mapping[str, Tensor]]) -> tuple[Tensor, Mapping[str, Tensor]]:
    return loss if isinstance(loss, tuple) else (loss, {})
