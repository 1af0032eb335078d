"""A PostgreSQL server of a test's own: Debian's binaries, in a temporary folder, on loopback, as a user without rights, with a password."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

USER, PASSWORD = "dlrun_test", "s3cr3t-Pw0rd/äöü"
QUOTED = "s3cr3t-Pw0rd%2F%C3%A4%C3%B6%C3%BC"
ASKED = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60"]


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`; None where PostgreSQL is not installed."""
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None)


class Server:
    """Runs from the start; `close` ends it and removes its folder."""

    def __init__(self) -> None:
        home = binaries()
        assert home is not None
        self.folder = Path(tempfile.mkdtemp(prefix="dlrun-postgres-"))
        self.log = open(self.folder / "log.txt", "w")  # noqa: SIM115 (as long as the server)
        (self.folder / "password").write_text(PASSWORD, encoding="utf-8")
        self.account = self._account()
        data, place = self.folder / "data", {"cwd": self.folder, **self.account}
        made = [home / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={self.folder / 'password'}", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C", "--no-sync"], check=True, stdout=self.log, stderr=self.log, **place)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        asked = [home / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(self.port), "-k", self.folder, *ASKED]
        self.process = subprocess.Popen(asked, stdout=self.log, stderr=self.log, **place)
        self._wait()

    def _account(self) -> dict[str, Any]:
        """PostgreSQL does not run as root."""
        if os.getuid() != 0:
            return {}
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = names.get("postgres") or names["nobody"]
        for path in (self.folder, self.folder / "password"):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.run("postgres", "select 1")
                return
            except Exception:  # it is starting
                time.sleep(0.05)
        raise AssertionError((self.folder / "log.txt").read_text())

    def url(self, database: str, password: str = QUOTED, scheme: str = "postgresql") -> str:
        """The address of a database, the password in it."""
        return f"{scheme}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, database: str, query: str) -> list[Any]:
        """The rows that a statement gives."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True, connect_timeout=5
        ) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def make(self, database: str) -> str:
        """A new database; its address."""
        self.run("postgres", f'create database "{database}"')
        return self.url(database)

    def dump(self, database: str) -> str:
        """Every row of every table, as text."""
        tables = self.run(database, "select table_name from information_schema.tables where table_schema = 'public'")
        return "\n".join(str(self.run(database, f'select * from "{name}"')) for (name,) in tables)

    def close(self) -> None:
        """Stop it; nothing stays."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
