"""A single picture file: scaled and cut as torchvision does, 16 bits, transparency, cameras held upright, several frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import picture

from dlrun.datasets import _pictures
from dlrun.datasets._pictures import decode


@pytest.mark.parametrize("shape", [(9, 8), (40, 64), (101, 33), (8, 8), (64, 17)])
@pytest.mark.parametrize("size", [8, 15])
def test_scaling_and_cutting_are_torchvisions_to_the_bit(tmp_path: Path, shape: tuple[int, int], size: int) -> None:
    from dlrun.vision import torchvision

    transforms = torchvision().transforms
    picture(tmp_path / "x.png", (*shape, 3))
    for channels, mode in ((3, "RGB"), (1, "L")):
        image = Image.open(tmp_path / "x.png").convert(mode)
        expected = transforms.PILToTensor()(transforms.CenterCrop(size)(transforms.Resize(size)(image)))
        found, remarks = decode(str(tmp_path / "x.png"), size, channels)
        assert np.array_equal(found, expected.numpy()) and ("enlarged" in remarks) == (min(shape) < size)


def test_sixteen_bits_are_scaled_and_transparency_becomes_white_and_cameras_held_upright(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 514], [65535, 65278, 32896]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found, remarks = decode(str(tmp_path / "deep.png"), None, 1)
    assert found.tolist() == [[[0, 1, 2], [255, 254, 128]]] and remarks == {"deep"}
    clear = np.zeros((2, 2, 4), dtype=np.uint8)
    clear[0, 0] = 10, 20, 30, 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    found, remarks = decode(str(tmp_path / "clear.png"), None, 3)
    assert found[:, 0, 0].tolist() == [10, 20, 30] and found[:, 1, 1].tolist() == [255] * 3 and remarks == {"transparent"}
    turned = Image.Exif()
    turned[_pictures.ORIENTATION] = 6
    pixels = picture(tmp_path / "turned.png", (4, 2, 3), exif=turned)
    found, remarks = decode(str(tmp_path / "turned.png"), None, 3)
    assert np.array_equal(found.transpose(1, 2, 0), np.rot90(pixels, -1)) and remarks == {"turned"}
    frames = [Image.fromarray(np.full((4, 4), value, dtype=np.uint8)) for value in (0, 255)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    found, remarks = decode(str(tmp_path / "two.gif"), None, 1)
    assert not found.any() and remarks == {"frames"}
