"""Which paths a config may name. A YAML can come from anybody, so that what it says is read only where nothing private lies.

A value of a path-typed option (`Path` in a part's annotations, `start.from`) counts if it
- was typed: it stands on the command line (or in the overrides that Python code gives), or
- lies, links followed, in the output root, the data cache, the folder of --config-dir or one that DLRUN_DATA names, or
- was typed when the run was trained whose saved config this is. A run remembers that in its manifest by a keyed hash (HMAC, RFC 2104) of
  option and path; the key lies in the data cache and never leaves it, so that a run from elsewhere can claim nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

from dlrun.config.kinds import Kind
from dlrun.config.layers import Path, dotted
from dlrun.config.places import cache_root, is_inside, printable
from dlrun.errors import DlrunError
from dlrun.plain_files import READ
from dlrun.rundir import read_json

KEY_BYTES = 32


def absolute(path: str) -> str:
    """`path` from the root, `~` expanded, links as they are."""
    return os.path.abspath(os.path.expanduser(path))


def names_files(kind: Kind) -> bool:
    """Whether an option of this kind names files or folders: a `Path` stands in its annotation."""
    return re.search(r"\bPath\b", kind.text) is not None


class Reach:
    """Decides on paths for one config; `used` are those that were allowed, by option, for the run's manifest."""

    def __init__(self, config_dir: str | None, from_file: str | None) -> None:
        self._roots = [
            cache_root(),
            *([config_dir] if config_dir else []),
            *filter(None, os.environ.get("DLRUN_DATA", "").split(os.pathsep)),
        ]
        self._from_file = from_file
        self._sealed: Mapping[str, Any] | None = None
        self.used: dict[str, str] = {}

    def add_root(self, folder: Any) -> None:
        """One more folder in which everything may be named."""
        if isinstance(folder, str):
            self._roots.append(folder)

    def refused(self, option: Path, value: str, written: Any, typed: bool) -> str | None:
        """Why `value`, in YAML `written`, cannot stand at `option`, ready to follow its place; None where it can."""
        path, name = absolute(value), dotted(option)
        if typed or self._inside(path) or self._was_typed(name, path):
            self.used[name] = path
            return None
        whole = re.sub(r"(\.\d+)+$", "", name)
        say = f"{whole}={printable(str(written), 200) if whole == name else '[...]'}"
        return (
            f"a config may not choose what is read outside the data cache, the output root and --config-dir; "
            f"if you mean this one, say {say} on the command line, or name its folder in DLRUN_DATA"
        )

    def _inside(self, path: str) -> bool:
        return any(is_inside(path, absolute(root)) for root in self._roots)

    def _was_typed(self, name: str, path: str) -> bool:
        if self._from_file is None:
            return False
        if self._sealed is None:
            try:
                found = read_json(File(self._from_file).with_name("manifest.json")).get("paths")
            except DlrunError:
                found = None
            self._sealed = found if isinstance(found, dict) else {}
        seal, key = self._sealed.get(name), _key()
        return isinstance(seal, str) and key is not None and hmac.compare_digest(seal.encode(), _seal(key, name, path).encode())


def seals(paths: Mapping[str, str]) -> dict[str, str] | None:
    """The proof, by option, that `paths` were allowed here; None where no key can be kept, so that they must be typed again."""
    key = (_key() or _new_key()) if paths else b""
    return None if key is None else {name: _seal(key, name, path) for name, path in paths.items()}


def _seal(key: bytes, name: str, path: str) -> str:
    return hmac.new(key, f"{name}\0{path}".encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def _key_file() -> str:
    return os.path.join(cache_root(), f"paths-{os.getuid()}.key")


def _key() -> bytes | None:
    """The key of this user on this machine; None where there is none that is the user's alone."""
    try:
        with open(os.open(_key_file(), READ), "rb") as file:
            status, key = os.fstat(file.fileno()), file.read(KEY_BYTES + 1)
    except OSError:
        return None
    return key if status.st_uid == os.getuid() and not status.st_mode & 0o077 and len(key) == KEY_BYTES else None


def _new_key() -> bytes | None:
    """Make the key, whole or not at all; another process may have been quicker."""
    part = f"{_key_file()}.{secrets.token_hex(8)}.part"
    try:
        os.makedirs(cache_root(), exist_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(part, _key_file())
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)
    return _key()
