"""Networks made of other networks' weights: weighted means of runs, with the statistics of batch norms taken anew."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dlrun.trained import Trained
from dlrun.types import Networks


def alike(runs: Sequence[Trained]) -> None:
    """ValueError unless the runs have networks of one form and were trained on the same data."""
    first = runs[0]
    forms = [
        {f"{name}.{key}": tuple(value.shape) for name, module in run.modules.items() for key, value in module.state_dict().items()}
        for run in runs
    ]
    for run, form in zip(runs, forms):
        odd = sorted(key for key in {*form, *forms[0]} if form.get(key) != forms[0].get(key))
        if odd:
            raise ValueError(
                f"{first.path} and {run.path} differ in the form of {', '.join(odd[:4])}: weights of one network only can be mixed"
            )
        if run.data.fingerprint != first.data.fingerprint:
            raise ValueError(f"{first.path} and {run.path} were trained on different data: there is no one set of rows to compare them on")
    if "loss" in first.modules:
        raise ValueError("the loss of these runs has parameters of its own, which belong to no network: their weights cannot be mixed")


def mixture(runs: Sequence[Trained], shares: Sequence[float]) -> dict[str, nn.Module]:
    """Copies of the first run's networks with the weighted mean of all runs' floating-point entries; whole numbers are the first run's."""
    mixed: dict[str, nn.Module] = {}
    for name, module in runs[0].networks.items():
        states = [run.networks[name].state_dict() for run in runs]
        mixed[name] = copy.deepcopy(module).eval()
        mixed[name].load_state_dict({key: _mean([state[key] for state in states], shares) for key in states[0]})
    return mixed


def _mean(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not values[0].is_floating_point():
        return values[0]
    kept = [(share, value) for share, value in zip(shares, values) if share]
    if len(kept) == 1 and kept[0][0] == 1:
        return kept[0][1]  # an end is that run to the bit
    return torch.stack([share * value.double() for share, value in kept]).sum(0).to(values[0].dtype)


def refresh(run: Trained, modules: Mapping[str, nn.Module], rows: int) -> None:
    """Take the running statistics of batch norms anew: the plain mean over training batches of about `rows` rows, as training saw them."""
    norms = [
        part for module in modules.values() for part in module.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None
    ]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    nets = Networks(modules)
    with torch.no_grad():
        for batch in run.training_batches(ceil(rows / run.data.batch_size) if norms else 0):
            run.task.evaluate(nets, batch)
    for norm, momentum in zip(norms, kept):
        norm.momentum = momentum
        norm.eval()


def directions(run: Trained) -> dict[str, int]:
    """Metric -> +1 where more is better, -1 where less is: the loss and every metric that says so."""
    found = {name: 1 if metric.best == "max" else -1 for name, metric in run.task.metrics.items() if metric.best}
    return {"loss": -1, **found}
