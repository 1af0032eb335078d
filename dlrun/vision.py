"""The only place that imports torchvision, guarded against a compiled part that does not fit the installed torch.

torchvision registers fake kernels for `nms` and `qnms` on import; where its C++ library did not load (another torch, CPU or CUDA build),
the operators have no schema and the import ends in "operator torchvision::nms does not exist". Declaring the two schemas lets the Python
part (models, transforms, download addresses) work. torchmetrics and timm import torchvision too, so they must come after this.
"""

from __future__ import annotations

import hashlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_KEPT: list[Any] = []
"""Library fragments: their schemas vanish when they are collected."""


def _declare_missing() -> None:
    import torch

    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            fragment.define(schema)
    _KEPT.append(fragment)


@cache
def torchvision() -> Any:
    """The torchvision module. Its own import tries the real compiled part first; only where that fails the schemas are declared."""
    try:
        import torchvision as module
    except (RuntimeError, AttributeError) as error:
        if "torchvision" not in str(error) and "nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import left half made
        _declare_missing()
        import torchvision as module
    return module


def download_urls(name: str) -> dict[str, list[str]]:
    """File name -> addresses, in order of preference, where torchvision's dataset class `name` finds its source files.

    Of CIFAR-10 the binary version, which lies beside the Python one: that one is a pickle, and reading it could run code.
    """
    module = torchvision()
    kind = getattr(module.datasets, name)
    if hasattr(kind, "mirrors"):
        return {file: [f"{mirror}{file}" for mirror in kind.mirrors] for file, _ in kind.resources}
    url = kind.url.replace("-python.tar.gz", "-binary.tar.gz")
    return {url.rsplit("/", 1)[-1]: [url]}


def classifiers() -> list[str]:
    """Names of torchvision's image classifiers."""
    names: list[str] = torchvision().models.list_models(module=torchvision().models)
    return names


def pretrained(arch: str, name: str) -> tuple[str, dict[str, Any]]:
    """(full name, state dict) of torchvision's weights `name` (or DEFAULT) for `arch`, from torch's own cache or downloaded.

    torchvision's addresses carry the beginning of the file's sha256: it is checked after a download, and here before a cached file is read.
    Only tensors are read. Raises ValueError for a name that `arch` does not have, MissingError where the file is damaged or out of reach.
    """
    import torch

    from dlrun.errors import MissingError

    kind = torchvision().models.get_model_weights(arch)
    if name not in kind.__members__:
        raise ValueError(f"weights={name} is unknown for {arch}; there are: {', '.join(kind.__members__)} (or null)")
    weights = kind[name]
    file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1])
    _check_hash(file)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError) as error:  # no network, no room; a hash that does not match
        reason = " ".join(str(getattr(error, "reason", error)).split())[:120]
        say = f"bring {weights.url} to {file.parent} yourself, or say weights=null"
        raise MissingError(f"model torchvision: the weights {weights} cannot be brought ({reason}): {say}") from None
    return str(weights), state


def _check_hash(file: Path) -> None:
    """MissingError where a cached file is not what its name says: `resnet18-f37072fd.pth` begins its sha256 with f37072fd."""
    from dlrun.errors import MissingError

    named = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if not named or not file.exists():
        return
    with open(file, "rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if not found.startswith(named[1]):
        raise MissingError(f"{file}: sha256 {found[:8]}..., expected {named[1]}...: the file is damaged, delete it")
