"""One picture file as uint8 pixels: opened by its content in a few harmless formats, bounded, upright, scaled and cut to a square.

Scaling and cutting are those of torchvision's Resize(size) and CenterCrop(size) on PIL images, to the bit. Whatever is wrong with a file
ends in a MissingError of one line that names it.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dlrun.datasets._listing import shown
from dlrun.errors import MissingError

Array = np.ndarray[Any, np.dtype[np.uint8]]

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"]
"""None of PIL's formats that call other programs."""
MOST_PIXELS = 2**26
"""Of a file and of what it becomes while it is scaled: 64 million, 200 MB decoded. A file of some kB can say that it has more."""
ORIENTATION = 0x0112
"""The EXIF tag of how a camera was held: 1 upright, 2 to 8 turned or mirrored."""
REMARKS = {
    "enlarged": "are smaller than that and are enlarged",
    "turned": "were taken with the camera turned and are set upright by their EXIF tag",
    "transparent": "have transparent parts, which become white",
    "frames": "are animated or have several pages: only the first is used",
    "deep": "have 16 bits a pixel and are scaled to 8",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow's own warnings (many pixels, odd EXIF data) say nothing that the bounds here do not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _eight_bits(image: Any, remarks: set[str]) -> Any:
    """Grey pictures of 16 bits as 8 bits: PIL's own conversion would cut all values above 255 to white."""
    from PIL import Image

    if not image.mode.startswith("I"):
        if image.mode == "F":
            raise ValueError("it has floating-point pixels, expected whole numbers of 8 or 16 bits")
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("it has pixels of 32 bits, expected 8 or 16")
    remarks.add("deep")
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def _opaque(image: Any, remarks: set[str]) -> Any:
    """Transparent pixels on white, as a page shows them: dropping the transparency would bring up colours that nobody sees."""
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    if image.getextrema()[3][0] == 255:
        return image.convert("RGB")
    remarks.add("transparent")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def _square(image: Any, size: int, remarks: set[str]) -> Any:
    """The centre of the picture, its shorter side scaled to `size` (bilinear, smoothed where it shrinks)."""
    from PIL import Image

    wide, high = image.size
    scaled = (size, int(size * high / wide)) if wide <= high else (int(size * wide / high), size)
    if scaled[0] * scaled[1] > MOST_PIXELS:
        raise ValueError(f"it has {wide} x {high} pixels: too long and narrow to be scaled to {size}")
    if min(wide, high) < size:
        remarks.add("enlarged")
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _decode(path: str, size: int | None, channels: int) -> tuple[Array, set[str]]:
    from PIL import Image, ImageOps

    remarks: set[str] = set()
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"it has {image.width} x {image.height} pixels, expected at most {MOST_PIXELS}")
        if getattr(image, "n_frames", 1) > 1:
            remarks.add("frames")
        image.load()
        upright: Any = image
        if image.getexif().get(ORIENTATION, 1) in range(2, 9):
            upright = ImageOps.exif_transpose(image)
            remarks.add("turned")
        found = _opaque(_eight_bits(upright, remarks), remarks).convert("RGB" if channels == 3 else "L")
    if size is not None:
        found = _square(found, size, remarks)
    pixels = np.asarray(found, dtype=np.uint8)
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)), remarks


def decode(path: str, size: int | None, channels: int) -> tuple[Array, set[str]]:
    """uint8 [channels, size, size] of a picture ([channels, height, width] without a size), and which of `REMARKS` apply to it."""
    from PIL import Image, UnidentifiedImageError

    try:
        return _decode(path, size, channels)
    except Image.DecompressionBombError:
        reason = f"it has more than {MOST_PIXELS} pixels"
    except UnidentifiedImageError:
        reason = f"it is none of {', '.join(FORMATS)} by its content"
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        OverflowError,
        MemoryError,
        IndexError,
        KeyError,
        TypeError,
        struct.error,
        zlib.error,
    ) as error:
        reason = str(error).split("\n")[0][:200] or type(error).__name__
    raise MissingError(f"{shown(path)} cannot be read as a picture: {shown(reason)}")
