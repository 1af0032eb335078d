"""The copy for TensorBoard: event files in the run's `tensorboard/` folder, written without torch.

Source: tensorboard's protocol buffers (event.proto, summary.proto, hparams' plugin_data.proto) and the TFRecord framing: length (8 bytes),
its checksum (4), data, its checksum (4).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, Any]
HPARAMS = "events.out.tfevents.0000000000.hparams"
"""A file of its own, first in TensorBoard's order: it is replaced at each end, for TensorBoard keeps the first it reads."""


class TensorBoardCopy:
    """Writes scalars and histograms as they come; figures, the config, hparams and the events at the end."""

    name, folder = "TensorBoard", "tensorboard"

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise ImportError(f"{error}; install it with: pip install 'dlrun[tensorboard]'") from None
        self._pb: Any = event_pb2
        self._event, self._summary, self._writer_of = event_pb2.Event, summary_pb2.Summary, EventFileWriter
        self._directory = self._config = Path()
        self._writer: Any = None
        self._step = -1

    def open(self, job: Row) -> int:
        """Start a further event file; returns the last step that earlier ones hold (-1: none).

        What they hold after the checkpoint that a resumed run goes on from is purged: TensorBoard drops it when it reads the new file.
        """
        self._directory, self._config = Path(job["run_dir"]), Path(job["config"])
        folder = self._directory / self.folder
        earlier = sorted(path for path in folder.glob("events.*") if path.name != HPARAMS)
        held = max((self._event.FromString(data).step for path in earlier for data in records(path)), default=-1)
        self._step = min(held, job["step"]) if job["step"] else held
        while earlier and f"{int(time.time()):010d}" <= earlier[-1].name.split(".")[3]:
            time.sleep(0.05)  # files are read in the order of their names, which have seconds
        self._writer = self._writer_of(str(folder), flush_secs=10)
        if earlier:
            mark = self._pb.SessionLog(status=self._pb.SessionLog.START)
            self._writer.add_event(self._event(wall_time=time.time(), step=self._step + 1, session_log=mark))
        return self._step

    def add(self, rows: list[Row]) -> None:
        """One event a row, with all its numbers as scalars and its mappings as histograms."""
        for row in rows:
            values = {name: value for name, value in row.items() if name != "step"}
            scalars = [self._summary.Value(tag=name, simple_value=v) for name, v in values.items() if isinstance(v, (int, float))]
            histograms = [self._histogram(name, v) for name, v in values.items() if isinstance(v, dict)]
            self._write([*scalars, *histograms], row["step"])
        self._step = rows[-1]["step"]
        self._writer.flush()

    def close(self, summary: Row | None, events: list[Row], figures: list[Path]) -> str:
        """Add figures, config and events, end the file. Without a summary the run is in other hands: only the file ends."""
        if summary is not None:
            step = max(self._step, 0)
            images = [self._summary.Value(tag=f"figures/{path.stem}", image=self._image(path)) for path in figures]
            lines = [f"| {event.get('step')} | {event.get('event')} |" for event in events]
            config = self._config.read_text(encoding="utf-8")
            texts = {"config": "\n".join("    " + line for line in config.splitlines())}
            texts["events"] = "\n".join(["| step | event |", "|---|---|", *lines])
            self._write([*images, *(self._text(name, text) for name, text in texts.items())], step)
            self._hparams(yaml.safe_load(config), summary)
        self._writer.close()
        return f"TensorBoard: tensorboard --logdir {self._directory / self.folder}"

    def _write(self, values: list[Any], step: int) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def _histogram(self, tag: str, found: Row) -> Any:
        from tensorboard.compat.proto.histogram_pb2 import HistogramProto

        counts, low, high = found["counts"], found["low"], found["high"]
        limits = [low + (high - low) * (i + 1) / len(counts) for i in range(len(counts))]
        totals = {"num": sum(counts), "sum": found["sum"], "sum_squares": found["sum_squares"]}
        return self._summary.Value(tag=tag, histo=HistogramProto(min=low, max=high, **totals, bucket_limit=limits, bucket=counts))

    def _hparams(self, config: Row, summary: Row) -> None:
        """The config flat, and the last values as metrics: written whole or not at all, in place of the last time's."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        from dlrun.sinks.tensorboard_hparams import hparams

        part = self._directory / self.folder / ".hparams.part"
        with open(part, "wb") as file:
            writer = RecordWriter(file)
            first = self._event(wall_time=time.time(), file_version="brain.Event:2")
            values = hparams(self._summary, config, summary, self._directory.name)
            for event in (first, self._event(wall_time=time.time(), step=0, summary=self._summary(value=values))):
                writer.write(event.SerializeToString())
            writer.flush()
        part.replace(part.with_name(HPARAMS))

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
