"""torchvision through its guard: an unfit compiled part does no harm, other errors are not hidden, addresses are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNFIT = """
import torch
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
torch.library.register_fake("torchvision::qnms")(lambda dets, scores, iou_threshold: dets)
"""


def run(script: str, torchvision: str | None, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `script`; `torchvision` is the text of a package that stands in its place."""
    if torchvision is not None:
        (folder / "torchvision").mkdir()
        (folder / "torchvision" / "__init__.py").write_text(torchvision)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


def test_missing_operators_are_declared_where_the_compiled_part_does_not_fit(tmp_path: Path) -> None:
    direct = run("import torchvision", UNFIT, tmp_path)
    assert "operator torchvision::nms does not exist" in direct.stderr
    guarded = run(
        "import gc; from dlrun.vision import torchvision as t; t(); gc.collect(); import torch; t(); torch.ops.torchvision.nms",
        None,
        tmp_path,
    )
    assert guarded.returncode == 0, guarded.stderr


def test_other_errors_of_torchvision_are_not_hidden(tmp_path: Path) -> None:
    done = run("from dlrun.vision import torchvision as t; t()", "raise RuntimeError('something else')", tmp_path)
    assert "something else" in done.stderr and done.returncode == 1


def test_addresses_are_torchvisions_and_never_those_of_a_pickle(tmp_path: Path) -> None:
    from dlrun.vision import download_urls

    names = download_urls("FashionMNIST")
    assert len(names) == 4 and all(url.endswith(name) for name, urls in names.items() for url in urls)
    assert list(download_urls("CIFAR10")) == ["cifar-10-binary.tar.gz"]
