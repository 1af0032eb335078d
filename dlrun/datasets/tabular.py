"""Tables of real measurements that ship with scikit-learn, read from its files: no download, and no import of scikit-learn (1 s).

Source: UCI Machine Learning Repository: W. Wolberg, O. Mangasarian, N. Street, Breast Cancer Wisconsin (Diagnostic), 1993; R. Fisher, Iris,
1936; S. Aeberhard, M. Forina, Wine, 1992. Diabetes: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression, 2004, section
1 (y: a measure of the disease's progression after a year, from 25 to 346).
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dlrun.datasets._shares import cut
from dlrun.ranges import Fraction, Seed
from dlrun.types import DataSpec, Splits

Array = np.ndarray[Any, np.dtype[np.float64]]

CELL = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)


@dataclass(frozen=True)
class Table:
    """Where a table's numbers lie, how many, what its columns are called; `targets` are the classes, or the one number to predict."""

    files: tuple[str, ...]
    shape: tuple[int, int]
    features: tuple[str, ...]
    targets: tuple[str, ...]
    classes: bool = True


TABLES = {
    "breast_cancer": Table(
        ("breast_cancer.csv",),
        (569, 31),
        (*(f"mean {name}" for name in CELL), *(f"{name} error" for name in CELL), *(f"worst {name}" for name in CELL)),
        ("malignant", "benign"),
    ),
    "iris": Table(
        ("iris.csv",),
        (150, 5),
        ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"),
        ("setosa", "versicolor", "virginica"),
    ),
    "wine": Table(
        ("wine_data.csv",),
        (178, 14),
        (
            "alcohol",
            "malic acid",
            "ash",
            "alcalinity of ash",
            "magnesium",
            "total phenols",
            "flavanoids",
            "nonflavanoid phenols",
            "proanthocyanins",
            "color intensity",
            "hue",
            "od280/od315 of diluted wines",
            "proline",
        ),
        ("class 0", "class 1", "class 2"),
    ),
    "diabetes": Table(
        ("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"),
        (442, 11),
        ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
        ("progression",),
        classes=False,
    ),
}


def _numbers(path: Path) -> Array:
    """The rows of a file of scikit-learn's, plain or gzipped, split at commas or blanks, without its header."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    lines = [line.replace(",", " ").split() for line in text.splitlines()]
    header = any(word[0].isalpha() for word in lines[0])
    return np.array(lines[1:] if header else lines, dtype=np.float64)


def _read(name: str) -> Array:
    """float64 [rows, features + 1] of table `name`, the target last."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("dataset tabular comes with scikit-learn, which is not installed: pip install scikit-learn")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    table = TABLES[name]
    try:
        numbers = np.concatenate([_numbers(folder / file) for file in table.files], axis=1)
    except (OSError, ValueError, EOFError):  # a release of scikit-learn that keeps its files elsewhere
        from sklearn import datasets

        options = {"scaled": False} if name == "diabetes" else {}
        loaded = getattr(datasets, f"load_{name}")(**options)
        numbers = np.concatenate([loaded.data, loaded.target[:, None]], axis=1)
    if numbers.shape != table.shape:
        raise ValueError(f"table {name}: scikit-learn's file has shape {numbers.shape}, expected {table.shape}")
    return numbers


def _standardised(columns: Array, rows: Array) -> tuple[Tensor, Any, Any]:
    """`columns` float32 with mean 0 and std 1 over `rows`, and these means and stds, which are computed in double precision."""
    mean, std = columns[rows].mean(0), columns[rows].std(0)
    if np.any(std == 0):
        raise ValueError("a column has the same value in every row of train: take another dataset.seed, or a smaller val and test")
    return torch.from_numpy((columns - mean) / std).float(), mean, std


def _facts(source: Table, targets: Array, train: Array) -> tuple[Tensor, dict[str, Any], tuple[str, ...]]:
    """y, what the spec says of it, and lines to print: classes as they are, numbers standardised."""
    if source.classes:
        count = len(source.targets)
        return (
            torch.from_numpy(targets).long(),
            {"kind": "classification", "classes": count, "names": source.targets, "out_shape": (count,)},
            (),
        )
    y, mean, std = _standardised(targets, train)
    note = (
        f"data: y is {source.targets[0]}, standardised with train's mean {mean:.4g} and std {std:.4g}: the loss is in that unit "
        "(mse 1: no better than the mean), mae and other metrics in the table's own"
    )
    return y, {"kind": "regression", "target_mean": (float(mean),), "target_std": (float(std),)}, (note,)


def tabular(*, table: Literal["breast_cancer", "diabetes", "iris", "wine"], val: Fraction, test: Fraction, seed: Seed) -> Splits:
    """x float32 [features], each standardised with train's mean and std; y a class (int64), or for diabetes a number (float32) that is
    standardised likewise: the spec has its mean and std, so that metrics are in the unit of the table (mae 43 is 43, not 0.56).

    Rows of val and test are picked by `seed`, the same share of every class.
    """
    source, numbers = TABLES[table], _read(table)
    features, targets = numbers[:, :-1], numbers[:, -1]
    rows = cut(torch.from_numpy(targets).long() if source.classes else None, len(numbers), val, test, seed, source.targets)
    train = rows["train"].numpy()
    x, _, _ = _standardised(features, train)
    y, facts, note = _facts(source, targets, train)
    counts, rule = " / ".join(str(len(part)) for part in rows.values()), ", the same share of every class" if source.classes else ""
    spec = DataSpec(
        in_shape=(len(source.features),),
        features=source.features,
        split_rule=f"{counts} rows{rule}, dataset seed {seed}",
        source=f"scikit-learn's {' and '.join(source.files)}",
        notes=(f"data: each of the {len(source.features)} features is standardised with its mean and std of train", *note),
        **facts,
    )
    split = {name: {"x": x[part], "y": y[part]} for name, part in rows.items()}
    return Splits(split["train"], split["val"], split.get("test"), spec)
