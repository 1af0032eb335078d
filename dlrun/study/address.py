"""The address of a study's database, as it is typed and as it may be shown: a password in it is known to this process and to no one else.

`PGPASSWORD`, `~/.pgpass` or a `service` keep a password out of the command line altogether. One that is typed is blanked in the list of
processes and in `sys.argv`, from which manifests and logs are written; workers get the address through a pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from dlrun.errors import UsageError
from dlrun.redact import note_taken

HIDDEN = "***"
EXAMPLE = "postgresql://USER@HOST/DATABASE"
SECRET_KEYS = ("password", "passwd", "sslpassword", "passfile")


def read_address(text: str) -> Any:
    """The address as SQLAlchemy's URL; `postgresql://` goes through psycopg 3. UsageError, without the text, where it is none."""
    import sqlalchemy as sa

    try:
        found = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise UsageError(f"--storage: that is no address of a database; expected one such as {EXAMPLE}") from None
    except ValueError:
        raise UsageError(f"--storage: the port is no number; expected an address such as {EXAMPLE}") from None
    return found.set(drivername="postgresql+psycopg") if found.drivername in ("postgresql", "postgres") else found


def shown(address: Any) -> str:
    """The address without what is secret in it."""
    query = {key: HIDDEN if key in SECRET_KEYS else value for key, value in address.query.items()}
    return str(address.set(query=query).render_as_string(hide_password=True))


def secrets_of(text: str) -> list[str]:
    """The secrets in an address as they stand there; found without SQLAlchemy, for this comes before anything else."""
    _, slashes, rest = text.partition("://")
    if not slashes:
        return []
    account, at, _ = rest.rpartition("@")
    found = [account.partition(":")[2]] if at else []
    for pair in text.partition("?")[2].split("&"):
        key, _, value = pair.partition("=")
        found += [value] if key in SECRET_KEYS else []
    return [secret for secret in found if secret]


def conceal(text: str | None, arguments: list[str] | None = None) -> None:
    """Blank the secrets of an address in `sys.argv` and in the list of processes, and keep them out of all that is written."""
    arguments = sys.argv if arguments is None else arguments
    if not text or not (secrets := secrets_of(text)):
        return
    masked = text
    for secret in secrets:
        note_taken("PGPASSWORD", secret)
        note_taken("PGPASSWORD", unquote(secret))
        masked = masked.replace(secret, HIDDEN)
    arguments[:] = [word.replace(text, masked) for word in arguments]
    _blank(text.encode(), [secret.encode() for secret in secrets])


def _blank(text: bytes, secrets: Sequence[bytes]) -> None:
    """Overwrite secrets where the kernel reads this process's command line; systems that do not say where that is are left alone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        begin, end = int(fields[45]), int(fields[46])
        with open("/proc/self/cmdline", "rb") as file:
            line = file.read()
        where = line.find(text)
        if not 0 < begin < end or len(line) != end - begin or where < 0:
            return
        for secret in secrets:
            place = text.find(secret)
            while place >= 0:
                ctypes.memset(begin + where + place, ord("*"), len(secret))
                place = text.find(secret, place + len(secret))
