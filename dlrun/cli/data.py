"""`dlrun data`: the data exactly as the network gets it, and `--fetch`, which brings real data into the cache."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrun.cli.arguments import Arguments
from dlrun.cli.common import compose_for

if TYPE_CHECKING:
    from dlrun.data import Data

MOST_CLASSES_SHOWN = 20


def run(arguments: Arguments) -> int:
    """Compose the config, then show its data or fetch it; `--cfg` prints the config and stops."""
    composed = compose_for(arguments)
    if arguments.flag("cfg"):
        from dlrun.config.dump import dump

        sys.stdout.write(dump(composed.saved))
        return 0
    config = composed.resolved
    document = (
        _fetch(config["dataset"]["name"]) if arguments.flag("fetch") else _look(config, bool(arguments.flag("json")), arguments.text("out"))
    )
    if arguments.flag("json"):
        from dlrun.cli.as_json import print_json

        print_json(document)
    elif arguments.flag("fetch"):
        print("\n".join(_fetched_lines(document)))
    return 0


def _fetch(name: str) -> dict[str, Any]:
    """Bring the dataset's files into the cache: what came from where, with the sums that were checked."""
    from dlrun import registry
    from dlrun.data import cache_root

    real = getattr(registry.get("dataset", name), "real", None)
    if real is None:
        return {"dataset": name, "source": None, "cache": None, "sha256": {}}
    from dlrun.datasets._fetch import fetch

    source = fetch(real, str(cache_root()), lambda line: print(line, file=sys.stderr, flush=True))
    sums = {key: known for key, (_, known) in real.arrays.items()}
    return {"dataset": name, "source": source, "cache": str(cache_root() / name), "sha256": sums}


def _fetched_lines(document: Mapping[str, Any]) -> list[str]:
    if document["source"] is None:
        return [f"dataset {document['dataset']} has nothing to fetch"]
    sums = [f"  sha256 {known}  {key}" for key, known in document["sha256"].items()]
    return [f"{document['dataset']}: from {document['source']}, checked, in {document['cache']}", *sums]


def _class_counts(data: Data) -> dict[str, list[int]]:
    """Rows of each class a split, where the targets are in memory."""
    import torch

    targets = {split: data.targets(split) for split in data.rows} if data.spec.kind == "classification" else {}
    return {
        split: torch.bincount(y[y >= 0], minlength=data.spec.classes or 0).tolist()  # negative ones do not count
        for split, y in targets.items()
        if y is not None and y.dim() == 1 and not y.is_floating_point()
    }


def _look(config: Mapping[str, Any], quiet: bool, out: str | None) -> dict[str, Any]:
    """What there is to know of the data; printed unless `quiet`, with pictures in the folder `out`."""
    from dlrun.augmenting import add_augments
    from dlrun.build import build_data, build_task, choose_device
    from dlrun.inspect import describe
    from dlrun.look import everything
    from dlrun.parts import slots

    data = build_data(config, int(config["seed"]), choose_device(config["device"]))
    augments = {slot: str(part["name"]) for slot, part in slots(config.get("augment"), "augment").items()}
    if augments:  # what a label becomes depends on the task
        add_augments(data, config["augment"], build_task(config, data))
    batch = data.batches(0)[0]
    facts = everything.measure(data)
    document = {
        "dataset": config["dataset"]["name"],
        "spec": asdict(data.spec),
        "rows": data.rows,
        "batch_size": data.batch_size,
        "batch": describe(dict(batch)),
        "classes": _class_counts(data),
        **facts,
        "fingerprint": data.fingerprint,
        "notes": data.notes,
    }
    if not quiet:
        _print(document, data, batch)
    if out is not None:
        document["pictures"] = {}
        for name, path in everything.draw(data, batch, facts, augments, Path(out).expanduser(), config["dataset"]["name"]):
            document["pictures"][name] = str(path)
            if not quiet:
                print(f"picture: {path}")
        document["picture"] = document["pictures"].get("batch")
        if document["picture"] is None and not quiet:
            print("no picture of the batch: its x is no single tensor")
    return document


def _print(document: Mapping[str, Any], data: Data, batch: Any) -> None:
    from dlrun.inspect import describe_lines
    from dlrun.look import everything
    from dlrun.sinks.console import Console

    with Console() as console:
        for note in data.notes:
            console.line(note)
        first = "the first training batch" if len(data.cuts) == 1 else f"the first of {len(data.cuts)} parts of the first training batch"
        console.line(f"{document['dataset']}: {first}, as it enters the network", "title")
        for line in describe_lines(dict(batch)):
            console.line(line)
        console.table("rows", *_rows_table(document["rows"], document["classes"], data.spec.names))
        everything.show(console, data, document)
        console.line(f"split: {data.spec.split_rule or 'as the dataset gives them'}")
        console.line(f"fingerprint: {data.fingerprint}")


def _rows_table(rows: Mapping[str, int], classes: Mapping[str, list[int]], names: tuple[str, ...]) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells: rows of each split, then of each class (the first 20)."""
    width = min(max((len(counts) for counts in classes.values()), default=0), MOST_CLASSES_SHOWN)
    labels = [names[i] if i < len(names) else str(i) for i in range(width)]
    cells = [[split, count, *classes.get(split, [""] * width)[:width]] for split, count in rows.items()]
    return ["split", "rows", *labels], cells
