"""The only place that imports torchvision, guarded against a compiled part that does not fit the installed torch.

torchvision registers fake kernels for `nms` and `qnms` on import; where its C++ library did not load (another torch, CPU or CUDA build),
the operators have no schema and the import ends in "operator torchvision::nms does not exist". Declaring the two schemas lets the Python
part (models, transforms, download addresses) work. torchmetrics and timm import torchvision too, so they must come after this.
"""

from __future__ import annotations

import sys
from functools import cache
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
