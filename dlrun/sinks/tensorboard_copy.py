"""The copy for TensorBoard: event files in the run's `tensorboard/` folder, written without torch.

Source: tensorboard's protocol buffers (event.proto, summary.proto) and the TFRecord framing: length (8 bytes), its checksum (4), data,
its checksum (4).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class TensorBoardCopy:
    """Writes scalars as they come; figures, the config and the events at the end."""

    name, folder = "TensorBoard", "tensorboard"

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise ImportError(f"{error}; install it with: pip install 'dlrun[tensorboard]'") from None
        self._event, self._summary, self._writer_of = event_pb2.Event, summary_pb2.Summary, EventFileWriter
        self._directory = self._config = Path()
        self._writer: Any = None
        self._step = -1

    def open(self, job: Row) -> int:
        """Start a further event file; returns the last step that earlier ones hold (-1: none)."""
        self._directory, self._config = Path(job["run_dir"]), Path(job["config"])
        folder = self._directory / self.folder
        self._step = max((self._event.FromString(data).step for path in folder.glob("events.*") for data in records(path)), default=-1)
        self._writer = self._writer_of(str(folder), flush_secs=10)
        return self._step

    def add(self, rows: list[Row]) -> None:
        """One event a row, with all its numbers as scalars."""
        for row in rows:
            numbers = {name: value for name, value in row.items() if name != "step" and isinstance(value, (int, float))}
            values = [self._summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
            self._write(values, row["step"])
        self._step = rows[-1]["step"]
        self._writer.flush()

    def close(self, summary: Row, events: list[Row], figures: list[Path]) -> str:
        """Add figures, config and events, end the file."""
        step = max(self._step, 0)
        images = [self._summary.Value(tag=f"figures/{path.stem}", image=self._image(path)) for path in figures]
        lines = [f"| {event.get('step')} | {event.get('event')} |" for event in events]
        config = "\n".join("    " + line for line in self._config.read_text(encoding="utf-8").splitlines())
        texts = {"config": config, "events": "\n".join(["| step | event |", "|---|---|", *lines])}
        self._write([*images, *(self._text(name, text) for name, text in texts.items())], step)
        self._writer.close()
        return f"TensorBoard: tensorboard --logdir {self._directory / self.folder}"

    def _write(self, values: list[Any], step: int) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def _image(self, path: Path) -> Any:
        data = path.read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        return self._summary.Image(width=width, height=height, colorspace=4, encoded_image_string=data)

    def _text(self, tag: str, text: str) -> Any:
        from tensorboard.compat.proto import tensor_pb2, types_pb2
        from tensorboard.plugins.text import metadata

        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[text.encode()])
        about = metadata.create_summary_metadata(display_name=tag, description="")
        return self._summary.Value(tag=tag, metadata=about, tensor=tensor)


def records(path: Path) -> Iterator[bytes]:
    """The whole records of a TFRecord file; one cut short at the end is left out."""
    with open(path, "rb") as file:
        while len(head := file.read(12)) == 12:
            length = struct.unpack("<Q", head[:8])[0]
            data = file.read(length) if length < 1 << 30 else b""
            if len(data) < length or len(file.read(4)) < 4:
                return
            yield data
