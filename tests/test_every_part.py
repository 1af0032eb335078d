"""Every registered part and every experiment is built, checked, trained two steps, killed after the first and resumed to the same bits.

Models, optimizers and schedules have their own longer form in `test_resume.py`. A new part without an entry here fails by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import runs
import torch
import yaml
from PIL import Image

from dlrun import Splits, registry
from dlrun.checks import run_checks
from dlrun.config import compose, conf_dir
from dlrun.config.library import Library
from dlrun.config.requests import Request, request
from dlrun.errors import MissingError
from dlrun.probing import Question
from dlrun.train import build_run

TWO = ("train.steps=2", "train.checkpoint_every=1", "train.eval_every=0", "train.log_every=1", "train.keep_last=9", "train.batch_size=16")
REGRESSION = ("dataset=line", "task=supervised", "model=linear")
BINARY = ("dataset=side", "task=supervised", "model=linear")
RING = ("task=gan", "dataset=ring")
SINES = ("task=maml", "dataset=sine_tasks", "dataset.n=400", "model.width=16", "model.depth=1")
PONG = ("task=imitation", "dataset=pong", "dataset.rallies=50", "task.alpha=1.0", "task.replay=8", "model.width=16", "model.depth=1")
TEXT = (
    "task=language_model",
    "dataset=text_file",
    "dataset.context=8",
    "model=transformer",
    "model.width=16",
    "model.heads=2",
    "model.depth=1",
)
GRAPHS = ("task=supervised", "dataset=graphs", "dataset.n=64", "dataset.nodes=8", "dataset.test_nodes=12", "model=gnn", "model.width=8")
GRAMMAR = (TEXT[0], "dataset=grammar", "dataset.context=8", "dataset.n=64", *TEXT[3:])

VIEWS = ("task=contrastive", "augment.random_crop=random_crop", "augment.random_crop.pad=1")
LOSSES: dict[str, tuple[str, ...]] = {"cross_entropy": ("loss.label_smoothing=0.1",), "focal": (), "hinge": ()}
LOSSES |= {
    "mse": REGRESSION,
    "bce": BINARY,
    "l1": REGRESSION,
    "huber": REGRESSION,
    "kl": ("dataset=shares", "task=supervised", "model=linear"),
}
LOSSES |= {"info_nce": VIEWS, "align_uniform": VIEWS, "triplet": ("task=supervised",)}
METRICS: dict[str, tuple[str, ...]] = {"accuracy": (), "f1": (), "worst_recall": (), "precision": (), "recall": (), "auc": (), "brier": ()}
METRICS |= {"nll": (), "calibration_error": (), "top_k": (), "mse": REGRESSION, "rmse": REGRESSION, "explained_variance": REGRESSION}
METRICS |= {"mae": REGRESSION, "r2": REGRESSION, "perplexity": TEXT, "bits_per_byte": TEXT, "modes_covered": RING, "high_quality": RING}
METRICS |= {"energy_distance": RING}
AUGMENTS = {
    "flip": ("augment.flip.p=0.3",),
    "random_crop": ("augment.random_crop.pad=1",),
    "shift": ("augment.shift.pixels=1",),
    "roll": ("dataset=mnist1d", "model=cnn", "model.channels=[4]"),
    "rotate": ("augment.rotate.degrees=[-30,30]",),
    "cutout": ("augment.cutout.size=3",),
    "mixup": ("augment.mixup.alpha=1.0", "train.accumulate=2"),
    "cutmix": ("augment.cutmix.p=0.5",),
    "noise": REGRESSION,
    "randomize": ("augment.randomize.background=[-1,1]",),
}
TASKS = {
    "classification": (),
    "supervised": (),
    "language_model": TEXT,
    "gan": RING,
    "learned_loss_gan": ("task=learned_loss_gan", *RING[1:], "model.loss_net.width=8"),
    "autoencoder": ("task.latent=4",),
    "contrastive": VIEWS,
    "vae": ("task.latent=8",),
    "diffusion": ("dataset=moons", "task.timesteps=5"),
    "maml": SINES,
    "distillation": ("model.student.width=8", "model.teacher.width=8"),
    "adversarial": (),
    "least_squares": ("model.features=20",),
    "imitation": PONG,
}
REAL = {"fashion_mnist": "Fashion-MNIST", "mnist": "MNIST", "cifar10": "CIFAR-10"}
DATASETS = {
    "digits": (),
    "moons": (),
    "spirals": (),
    "tabular": (),
    "image_folder": ("model=cnn", "model.channels=[4]", "dataset.size=8"),
    "mnist1d": ("model=cnn", "model.channels=[4]"),
    "ring": RING,
    "text_file": TEXT,
    "grammar": GRAMMAR,
    "python_sources": (TEXT[0], "dataset=python_sources", "dataset.modules=[stat]", *TEXT[2:]),
    "graphs": GRAPHS,
    "modular_addition": ("model=embedding_sum",),
    "sine_tasks": SINES,
    "pong": PONG,
    **dict.fromkeys(REAL, ("model=cnn", "model.channels=[4]")),
}
EXPERIMENTS = {"fashion_mnist_cnn": "fashion_mnist", "gan_ring": None, "grokking": None}
EXPERIMENTS |= {"vae_fashion": "fashion_mnist", "diffusion_moons": None, "maml_sine": None, "pong": None}
EXPERIMENTS |= {"lr_transfer": "fashion_mnist"}
EXPERIMENTS |= {"wl_blindspots": None, "gnn_bellman_ford": None, "zero_layer_bigram": None, "logit_lens": None, "cifar10_mlp": "cifar10"}
EXPERIMENTS |= {"contrastive": None, "agan": None}
EXPERIMENTS |= dict.fromkeys(("zero_layer_text", "skipped_layers", "char_lm"))
EXPERIMENTS |= dict.fromkeys(("mode_connectivity", "distillation", "adversarial", "double_descent", "random_labels"), "fashion_mnist")
MLP = ("model=mlp", "model.width=8", "model.depth=1")
PROBES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "linear_probe": (MLP, ("rows=200",)),
    "knn": (MLP, ("rows=200",)),
    "adversarial": (MLP, ("rows=50", "steps=2")),
    "interpolation": (MLP, ("points=3",)),
    "weight_average": (MLP, ()),
    "logit_lens": (GRAMMAR, ("rows=8",)),
    "skip_layers": (GRAMMAR, ("rows=8",)),
    "ngram_entropy": (GRAMMAR, ("most=2",)),
    "writes": ((TEXT[0], "dataset=python_sources", "dataset.modules=[stat]", *TEXT[2:]), ("rows=8", "length=30")),
    "backprop_by_hand": (MLP, ("rows=20",)),
    "relaxation_rollout": ((*GRAPHS, "dataset.target=relaxation"), ("rows=8",)),
    "latent_traversal": (("task=vae", "task.latent=2"), ("rows=50",)),
    "alignment_uniformity": (VIEWS, ("rows=50",)),
    "trajectory": (MLP, ("level=0.1",)),
    "gradient_terms": (("task=vae", "task.latent=2"), ("rows=50",)),
    "hessian": (MLP, ("rows=50", "exact_below=0", "top=1", "draws=1", "tolerance=0.05")),
}
"""Overrides of a run that the probe can measure, and options that make it quick."""


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line to fit, two sides to tell apart, and a text."""
    x = torch.linspace(-1, 1, 90)[:, None].repeat(1, 3)
    monkeypatch.setitem(registry.PLUGINS["dataset"], "line", lambda: Splits((x, 2 * x[:, 0] + 1), (x, 2 * x[:, 0] + 1)))
    monkeypatch.setitem(registry.PLUGINS["dataset"], "side", lambda: Splits((x, (x[:, 0] > 0).float()), (x, (x[:, 0] > 0).float())))
    shares = (x, torch.stack((x[:, 0], -x[:, 0]), 1).softmax(1))
    monkeypatch.setitem(registry.PLUGINS["dataset"], "shares", lambda: Splits(shares, shares))
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat. " * 30)
    for number in range(60):  # dark ones and bright ones
        of_class = tmp_path / "pictures" / ("dark", "bright")[number % 2]
        of_class.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 8), (100 * (number % 2) + number, 50, number)).save(of_class / f"{number}.png")
    return path


def trains_and_resumes(folder: Path, *words: str) -> None:
    named = {word.split("=")[0] for word in words}
    words = (*[word for word in TWO if word.split("=")[0] not in named], *words)
    if "dataset=text_file" in words:
        words += (f"dataset.path={folder / 'text.txt'}",)
    if "dataset=image_folder" in words:
        words += (f"dataset.folder={folder / 'pictures'}",)
    if "task=distillation" in words:
        teacher = runs.start(folder / "teacher", "model.width=8", "train.steps=100")[0]
        words += (f"start={{from: {teacher}, step: last, networks: {{teacher: model}}, freeze: ['teacher.*']}}",)
    findings = run_checks(build_run(compose([*runs.QUIET, *words])), "fast")
    assert [finding for finding in findings if finding.level in ("warning", "error")] == []
    run, whole, code = runs.start(folder, *words)
    assert code == 0
    rows = runs.rows(run)
    runs.kill_back_to(run, 1)
    again, code, _ = runs.go_on(run)
    assert code == 0 and again["weights_sha256"] == whole["weights_sha256"] and runs.rows(run) == rows


@pytest.mark.parametrize("name", registry.builtin_names("optimizer"))
@pytest.mark.parametrize("words", [(), ("model=linear",), ("model=cnn", "model.channels=[4]")])
def test_optimizers(name: str, words: tuple[str, ...], tmp_path: Path) -> None:
    trains_and_resumes(tmp_path, f"optimizer={name}", *words)


@pytest.mark.parametrize("name", registry.builtin_names("schedule"))
def test_schedules(name: str, tmp_path: Path) -> None:
    trains_and_resumes(tmp_path, f"schedule={name}")


def probed_runs(name: str, folder: Path) -> tuple[Request, list[Path]]:
    """The probe as asked for in `PROBES`, and as many runs as it measures at least."""
    words, typed = PROBES[name]
    asked = request(Library(), name, dict(yaml.safe_load(word.replace("=", ": ", 1)).popitem() for word in typed))
    seeds = (0, 1) if asked.takes == "two" or name == "weight_average" else (0,)
    return asked, [runs.start(folder / str(seed), *TWO, *words, f"seed={seed}")[0] for seed in seeds]


@pytest.mark.parametrize("name", registry.builtin_names("probe"))
def test_probes(name: str, tmp_path: Path) -> None:
    """Measures what was trained, kept as it is; from the checkpoint once more the same numbers, to the bit, whatever was drawn before."""
    asked, paths = probed_runs(name, tmp_path)
    first = Question(asked, tuple(paths)).answer()
    assert first["numbers"] and Question(asked, tuple(paths)).answer()["seconds"] == first["seconds"]
    assert all((paths[0] / "figures" / figure).is_file() for figure in first["figures"])
    (paths[0] / "probes" / f"{name}.json").unlink()
    runs.scramble()
    assert Question(asked, tuple(paths)).answer()["numbers"] == first["numbers"]


@pytest.mark.parametrize("name", registry.builtin_names("loss"))
def test_losses(name: str, tmp_path: Path) -> None:
    trains_and_resumes(tmp_path, f"loss={name}", *LOSSES[name])


@pytest.mark.parametrize("name", registry.builtin_names("metric"))
def test_metrics(name: str, tmp_path: Path) -> None:
    trains_and_resumes(tmp_path, f"metric={name}", *METRICS[name])


@pytest.mark.parametrize("name", registry.builtin_names("augment"))
def test_augments(name: str, tmp_path: Path) -> None:
    trains_and_resumes(tmp_path, f"augment.{name}={name}", *AUGMENTS[name])


@pytest.mark.parametrize("name", registry.builtin_names("task"))
def test_tasks(name: str, tmp_path: Path) -> None:
    trains_and_resumes(tmp_path, *TASKS[name], *(() if any(word.startswith("task=") for word in TASKS[name]) else (f"task={name}",)))


def bring(name: str | None, absent: Callable[[str], NoReturn]) -> None:
    """End the test by name where a real data set is not there."""
    if name in REAL:
        try:
            build_run(compose([*runs.QUIET, f"dataset={name}", "model=linear"]))
        except MissingError:
            absent(REAL[name])


@pytest.mark.parametrize("name", registry.builtin_names("dataset"))
def test_datasets(name: str, tmp_path: Path, absent: Callable[[str], NoReturn], monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "image_folder":
        monkeypatch.setenv("DLRUN_CACHE", str(tmp_path / "cache"))
    bring(name, absent)
    trains_and_resumes(
        tmp_path, *DATASETS[name], *(() if any(word.startswith("dataset=") for word in DATASETS[name]) else (f"dataset={name}",))
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(conf_dir(), "experiment").glob("*.yaml")))
def test_experiments(name: str, tmp_path: Path, absent: Callable[[str], NoReturn]) -> None:
    bring(EXPERIMENTS[name], absent)
    trains_and_resumes(tmp_path, f"experiment={name}", "train.clip_norm=1.0")
