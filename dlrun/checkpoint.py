"""Checkpoints: tensors in safetensors, everything else in JSON, and a manifest of sha256 sums without which a checkpoint does not count.

Saving: a temporary directory beside the target, fsync of each file, manifest last, rename, fsync of the parent. Loading: newest to oldest,
the first whole one, saying which were passed over and why. Neither torch.save nor safetensors notices a flipped bit; the sums do.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlrun.errors import MissingError
from dlrun.plain_files import read_plain
from dlrun.rundir import LARGEST_JSON, fsync_directory

MANIFEST = "MANIFEST.json"
FORMAT = 1
LARGE, MOST_HEADER = 1 << 30, 100_000_000


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its step, plain state, and tensors by file name (without ending)."""

    path: Path
    step: int
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]

    def networks(self) -> list[str]:
        """Names of the networks it holds (and of the loss, where that has parameters)."""
        return [name for name in self.tensors if name not in ("optimizer", "ema", "state")]


def pack(tree: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """`tree` as plain JSON; its tensors move into `tensors` under readable names. Inverse of `unpack`."""
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return {"__tensor__": path}
    if isinstance(tree, Mapping):
        if all(isinstance(key, str) for key in tree):
            return {key: pack(value, tensors, f"{path}/{key}") for key, value in tree.items()}
        return {"__items__": [[key, pack(value, tensors, f"{path}/{key}")] for key, value in tree.items()]}
    if isinstance(tree, tuple):
        return {"__tuple__": [pack(value, tensors, f"{path}/{i}") for i, value in enumerate(tree)]}
    if isinstance(tree, list):
        return [pack(value, tensors, f"{path}/{i}") for i, value in enumerate(tree)]
    if hasattr(tree, "item") and not isinstance(tree, (str, bytes)):  # a numpy scalar
        tree = tree.item()
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise MissingError(
        f"state {path} holds a {type(tree).__name__}: a checkpoint keeps tensors and plain numbers, strings, lists and dicts"
    )


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` packed."""
    if isinstance(tree, list):
        return [unpack(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if "__tensor__" in tree:
        return tensors[tree["__tensor__"]].clone()
    if "__items__" in tree:
        return {key: unpack(value, tensors) for key, value in tree["__items__"]}
    if "__tuple__" in tree:
        return tuple(unpack(value, tensors) for value in tree["__tuple__"])
    return {key: unpack(value, tensors) for key, value in tree.items()}


def weights_sha256(modules: Mapping[str, nn.Module]) -> str:
    """sha256 over name (`network.key`), dtype, shape and bytes of every entry of the networks' state dicts, in name order."""
    entries = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    digest = hashlib.sha256()
    for name in sorted(entries):
        tensor = entries[name].detach().cpu().contiguous()
        digest.update(f"{name}|{str(tensor.dtype).removeprefix('torch.')}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU copies where needed: safetensors refuses tensors that share memory (tied weights appear under each of their names)."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage()
        shared = storage.data_ptr() in seen or storage.nbytes() != plain.numel() * plain.element_size()
        seen.add(storage.data_ptr())
        result[name] = plain.clone() if shared else plain
    return result


def _sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(manifest, sort_keys=True)
    return {**manifest, "sha256": hashlib.sha256(body.encode()).hexdigest()}


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file; what the disk refuses is an OSError, as everywhere else."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def step_directory(run: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return run / "checkpoints" / f"step-{step:08d}"


def save(run: Path, step: int, state: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """Write a checkpoint; a reader sees none of it or all of it. `tensors` maps file names (without ending) to named tensors."""
    target = step_directory(run, step)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()  # not its parents: a run directory that vanished must not come back without its other files
    names: dict[str, list[str]] = {}
    for stem, named in tensors.items():
        if named:
            write_tensors(_separate(named), part / f"{stem}.safetensors")
            names[f"{stem}.safetensors"] = sorted(named)
    (part / "state.json").write_text(json.dumps(state), encoding="utf-8")
    names["state.json"] = sorted(state)
    files = {}
    for name, entries in names.items():
        with open(part / name, "rb") as file:
            os.fsync(file.fileno())
        files[name] = {"sha256": _digest(part / name), "bytes": os.path.getsize(part / name), "names": entries}
    with open(part / MANIFEST, "w", encoding="utf-8") as file:
        json.dump(_sealed({"format": FORMAT, "step": step, "files": files}), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fsync_directory(part)
    if target.exists():  # a damaged one that a resume passed over
        shutil.rmtree(target)
    os.rename(part, target)
    fsync_directory(target.parent)
    return target


def steps(run: Path) -> list[int]:
    """Steps that have a checkpoint directory, whole or not, oldest first."""
    found = [path.name.removeprefix("step-") for path in (run / "checkpoints").glob("step-*") if path.is_dir()]
    return sorted(int(name) for name in found if name.isascii() and name.isdecimal())


def prune(run: Path, keep: int, also: set[int]) -> None:
    """Delete all but the newest `keep` checkpoints and those of the steps in `also`; never the last one."""
    for step in steps(run)[: -max(keep, 1)]:
        if step not in also:
            target = step_directory(run, step)
            doomed = target.with_name(target.name + ".old")
            os.rename(target, doomed)  # a half-deleted directory must not look like a checkpoint
            shutil.rmtree(doomed, ignore_errors=True)
    for rest in (run / "checkpoints").glob("*.old"):
        shutil.rmtree(rest, ignore_errors=True)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(read_plain(path / MANIFEST, LARGEST_JSON))
        seal = manifest.pop("sha256")
        if _sealed(manifest)["sha256"] != seal or manifest["format"] != FORMAT:
            raise MissingError(f"{path / MANIFEST} does not match its own sum")
        if not _well_formed(manifest):
            raise MissingError(f"{path / MANIFEST} does not list a step and files with their sizes and sums")
        return manifest
    except FileNotFoundError:
        raise MissingError(f"{path} has no {MANIFEST}: the checkpoint was never finished") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MissingError(f"{path / MANIFEST} cannot be read: {type(error).__name__}") from None


def _well_formed(manifest: dict[str, Any]) -> bool:
    """Whether the entries have the types that `save` writes; the sum says nothing of who made it."""
    files, step = manifest["files"], manifest["step"]
    kinds = {"sha256": str, "bytes": int, "names": list}
    return (
        type(step) is int
        and 0 <= step < 10**18
        and isinstance(files, dict)
        and all(isinstance(facts, dict) and all(type(facts.get(k)) is kind for k, kind in kinds.items()) for facts in files.values())
        and all(isinstance(name, str) for facts in files.values() for name in facts["names"])
    )


def _refuse_hollow(file: Path) -> None:
    """Before a large file is read whole: MissingError where it is no safetensors file, or a sparse one, which costs its sender nothing."""
    status = file.stat()
    if 0 < status.st_blocks * 512 < status.st_size // 64:
        raise MissingError(f"{file} says it has {status.st_size} bytes and occupies {status.st_blocks * 512}: it is not one of dlrun's")
    with open(file, "rb") as content:
        header = int.from_bytes(content.read(8), "little")
    if not 2 <= header <= min(MOST_HEADER, status.st_size - 8):
        raise MissingError(f"{file} begins with a header of {header} bytes: it is no safetensors file")


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a whole checkpoint; MissingError naming the first file that is absent or altered."""
    manifest = _manifest(path)
    for name, facts in manifest["files"].items():
        file = path / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            raise MissingError(f"{file} is missing or not a plain file")
        if file.stat().st_size != facts["bytes"]:
            raise MissingError(f"{file} has {file.stat().st_size} bytes, the manifest says {facts['bytes']}")
        if facts["bytes"] > LARGE:
            _refuse_hollow(file)
        if _digest(file) != facts["sha256"]:
            raise MissingError(f"{file} was altered: its sha256 is not the manifest's")
    if "state.json" not in manifest["files"]:
        raise MissingError(f"{path} has no state.json")
    return manifest


def read(path: Path) -> Checkpoint:
    """Load a whole checkpoint; MissingError where anything is missing, altered or unreadable."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    manifest = verify(path)
    try:
        state = json.loads(read_plain(path / "state.json", LARGEST_JSON))
        if not isinstance(state, dict):
            raise MissingError(f"{path / 'state.json'} holds a {type(state).__name__}, expected an object")
        tensors = {name.removesuffix(".safetensors"): load_file(path / name) for name in manifest["files"] if name.endswith(".safetensors")}
    except (SafetensorError, ValueError, RecursionError, OSError, KeyError, AttributeError, TypeError, RuntimeError, MemoryError) as error:
        raise MissingError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    for name, facts in manifest["files"].items():
        have = sorted(state) if name == "state.json" else sorted(tensors[name.removesuffix(".safetensors")])
        if have != facts["names"]:
            odd = sorted(set(have) ^ set(facts["names"]))
            raise MissingError(f"{path / name}: entries {', '.join(odd[:5])} are not those the manifest lists")
    return Checkpoint(path, int(manifest["step"]), state, tensors)


def newest(run: Path) -> tuple[Checkpoint, list[str]]:
    """The newest whole checkpoint of `run` and a line for each damaged one passed over; MissingError if none is whole."""
    passed: list[str] = []
    for step in reversed(steps(run)):
        try:
            return read(step_directory(run, step)), passed
        except MissingError as error:
            passed.append(str(error))
    if passed:
        raise MissingError([*passed, f"no whole checkpoint in {run / 'checkpoints'}: train anew"])
    raise MissingError(f"no checkpoint in {run / 'checkpoints'}: nothing to go on from, train anew")
