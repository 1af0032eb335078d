"""Promise S5: what servers and archives do wrong is bounded, one line long, and writes nothing outside its folder."""

from __future__ import annotations

import http.server
import io
import os
import random
import tarfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlrun.datasets import _fetch
from dlrun.datasets._decode import BrokenError, take_members, take_members_gz
from dlrun.datasets._fetch import NotThereError, download

SECRET = b"never to be read"


class Handler(http.server.BaseHTTPRequestHandler):
    """A server that does all that a server should not."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        try:
            getattr(self, f"give_{name.split('-')[0]}")(name)
        except OSError:
            self.close_connection = True  # the client has had enough

    def redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.end_headers()

    def give_to(self, name: str) -> None:
        self.redirect(bytes.fromhex(name.partition("-")[2]).decode())

    def give_loop(self, name: str) -> None:
        self.redirect("/loop-" + "x" * (len(name) % 7))

    def give_endless(self, name: str) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def give_drip(self, name: str) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(200):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.02)

    def give_headers(self, name: str) -> None:
        self.send_response(200)
        for number in range(2000):
            self.send_header(f"x{number}", "y" * 100)
        self.end_headers()

    def give_longline(self, name: str) -> None:
        self.wfile.write(b"HTTP/1.0 200 " + b"x" * (1 << 20) + b"\r\n\r\n")

    def give_noise(self, name: str) -> None:
        self.wfile.write(random.Random(1).randbytes(5000))

    def give_length(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", name.partition("-")[2].replace("m", "-"))
        self.end_headers()
        self.wfile.write(b"x" * 10)
        self.close_connection = True

    def give_chunks(self, name: str) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"ffffffffffffffffffff\r\nxxx")

    def give_fine(self, name: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"fine")

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()


@pytest.mark.parametrize(
    "target", ["file" + ":///etc/passwd", "FILE" + ":///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "jar:x", "//", "http://", "\x1b[2J"]
)
def test_a_redirect_leads_to_no_file(target: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(NotThereError) as caught:
        download([f"{server}/to-{target.encode().hex()}"], tmp_path / "x")
    assert list(tmp_path.iterdir()) == [] and "root:" not in str(caught.value) and str(caught.value).isprintable()


def test_a_redirect_within_the_web_is_followed(server: str, tmp_path: Path) -> None:
    download([f"{server}/to-{f'{server}/fine'.encode().hex()}"], tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"fine"


def test_https_is_not_given_up() -> None:
    request = urllib.request.Request("https://example.org/x")
    with pytest.raises(NotThereError, match="not followed"):
        _fetch._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://example.org/x")
    assert _fetch._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://mirror.example.org/x") is not None


@pytest.mark.parametrize(
    "name", ["loop", "endless", "drip", "headers", "longline", "noise", "length-m5", "length-x", "length-999999999999", "chunks"]
)
def test_a_server_that_misbehaves_is_left(name: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch, "DOWNLOAD_SECONDS", 0.3)
    with pytest.raises(NotThereError) as caught:
        download([f"{server}/{name}"], tmp_path / "x", limit=1 << 20)
    assert list(tmp_path.iterdir()) == [] and len(str(caught.value)) < 600 and str(caught.value).isprintable()


def test_a_part_that_is_a_link_is_replaced_by_what_was_wanted(server: str, tmp_path: Path) -> None:
    """The temporary folder is ours alone; should a `.part` stand there all the same, it does not stay."""
    download([f"{server}/fine"], tmp_path / "x")
    assert sorted(os.listdir(tmp_path)) == ["x"]


TYPES = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE, b"Z"]
PLACES = ["a", "../a", "/a", "../../../../../../tmp/a", "x/../../a", "./a", "a/", "a\0b", "a" * 300, "..", "", "x/a", "\u202ea", "-a"]


def archive(rng: random.Random, target: Path) -> bytes:
    """A tar of members of any type, name and size, among them one or more that are wanted."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as tar:
        for _ in range(rng.randint(1, 8)):
            member = tarfile.TarInfo(rng.choice(PLACES))
            member.type = rng.choice([tarfile.REGTYPE, *TYPES])
            member.linkname = rng.choice([str(target), "../../precious", "a", "/etc/passwd"])
            member.mode, member.uid = rng.choice([0o777, 0o4777, 0]), rng.choice([0, 99999])
            content = rng.randbytes(rng.choice([0, 3, 100, 5000]))
            member.size = len(content) if member.isreg() else 0
            try:
                tar.addfile(member, io.BytesIO(content))
            except (ValueError, UnicodeError):
                continue
    data = bytearray(buffer.getvalue())
    for _ in range(rng.choice([0, 0, 1, 5])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.choice([len(data), len(data) // 2])])


def test_fuzzed_archives_write_wanted_names_and_nothing_else(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(SECRET)
    rng, taken = random.Random(55), 0
    for number in range(400):
        folder = tmp_path / "deep" / "er" / str(number)
        folder.mkdir(parents=True)
        try:
            take_members(io.BytesIO(archive(rng, precious)), "x.tar", {"a": 1000}, folder)
            taken += 1
        except BrokenError as error:
            assert "\n" not in str(error)
        found = list(folder.iterdir())
        assert found in ([], [folder / "a"]) and all(
            path.is_file() and not path.is_symlink() and path.stat().st_size <= 1000 for path in found
        )
        assert all(path.stat().st_mode & 0o7000 == 0 for path in found)
    assert taken > 20
    assert (
        precious.read_bytes() == SECRET and sorted(os.listdir(tmp_path)) == ["deep", "precious"] and os.listdir(tmp_path / "deep") == ["er"]
    )


def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    """A tar of 128 MiB of zeros in 130 kB of gzip."""
    squeezed = zlib.compressobj(9, wbits=31)
    member = tarfile.TarInfo("z")
    member.size = 1 << 27
    with open(tmp_path / "x.tgz", "wb") as file:
        file.write(squeezed.compress(member.tobuf()))
        for _ in range(1 << 7):
            file.write(squeezed.compress(bytes(1 << 20)))
        file.write(squeezed.flush())
    began = time.process_time()
    with pytest.raises(BrokenError, match="unpacks to more"):
        take_members_gz(tmp_path / "x.tgz", {"a": 1000}, tmp_path)
    assert time.process_time() - began < 2 and not (tmp_path / "a").exists()
