"""The tables of a study and the database they stand in: SQLite in the study's folder, or any that SQLAlchemy has an address for.

Names begin with `dlrun_`, for Optuna keeps its own tables in the same database. All times are the database's: machines need not agree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from dlrun.errors import MissingError, UsageError
from dlrun.study.address import EXAMPLE, read_address, shown

BUSY_SECONDS = 60
"""How long a transaction waits for another one."""
PATIENCE_SECONDS = 60.0
"""How long a database that does not answer is asked again."""
HOPELESS = (
    "disk is full",
    "readonly",
    "read-only",
    "unable to open",
    "malformed",
    "disk I/O",
    "no such column",
    "has no column",
    "UndefinedColumn",
)
T = TypeVar("T")
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "orangefs", "panfs", "9p"}
NETWORK |= {f"fuse.{name}" for name in ("sshfs", "glusterfs", "ceph", "ceph-fuse", "s3fs", "mount-s3", "gcsfuse", "juicefs", "beegfs")}
NETWORK |= {*(f"fuse.{name}" for name in ("rclone", "blobfuse2", "goofys", "mfs")), "wekafs", "pvfs2", "gfs2", "ocfs2", "vboxsf"}
"""File systems of other machines: SQLite's locks and shared memory do not hold there."""

metadata = sa.MetaData()
studies = sa.Table(
    "dlrun_studies",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("begun", sa.Double, nullable=False),
)
cells = sa.Table(
    "dlrun_cells",
    metadata,
    sa.Column("study", sa.String(200), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("source", sa.String(40), nullable=False),
)
jobs = sa.Table(
    "dlrun_jobs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.String(200), nullable=False),
    sa.Column("cell", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("turn", sa.Integer, nullable=False),  # lower ones are taken first
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("seals", sa.Text, nullable=False),  # proofs that paths in the config were typed (`config.reach`)
    sa.Column("place", sa.Text, nullable=False),  # the run's folder as seen from the study's; empty: runs/<cell>-s<seed>
    sa.Column("checked", sa.Boolean, nullable=False),  # whether the fast checks run before it
    sa.Column("state", sa.String(10), nullable=False),  # waiting, running, finished, failed or pruned
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("crashes", sa.Integer, nullable=False),  # workers that died of it
    sa.Column("lost", sa.Integer, nullable=False),  # workers that went away with it, nobody knows why
    sa.Column("owner", sa.String(200)),
    sa.Column("lease_until", sa.Double),
    sa.Column("began", sa.Double),
    sa.Column("ended", sa.Double),
    sa.Column("value", sa.Double),
    sa.Column("summary", sa.Text),
    sa.Column("failure", sa.String(20)),
    sa.Column("reason", sa.Text),
    sa.Column("signature", sa.Text),
    sa.Column("log", sa.Text),
    sa.UniqueConstraint("study", "cell", "seed"),
    sa.Index("dlrun_jobs_queue", "study", "state", "turn"),
)
attempts = sa.Table(
    "dlrun_attempts",
    metadata,
    sa.Column("job", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("began", sa.Double, nullable=False),
    sa.Column("ended", sa.Double),
    sa.Column("outcome", sa.Text),
)
readings = sa.Table(
    "dlrun_readings",
    metadata,
    sa.Column("job", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Double, nullable=False),
)


class now(FunctionElement[float]):
    """The database's clock, in seconds since 1970."""

    type = sa.Double()
    inherit_cache = True


@compiles(now)
def _now(element: Any, compiler: Any, **options: Any) -> str:
    return "extract(epoch from clock_timestamp())"


@compiles(now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "mysql")
@compiles(now, "mariadb")
def _now_mysql(element: Any, compiler: Any, **options: Any) -> str:
    return "unix_timestamp(sysdate(6))"


def sqlite_url(file: Path) -> str:
    """The address of a SQLite file."""
    return f"sqlite:///{file.absolute()}"


def connect(url: str, *, make: bool = True) -> sa.Engine:
    """The database at `url`, with `make` its tables made where they are not there.

    UsageError for an address that cannot be, MissingError where no database answers.
    """
    address = read_address(url)
    options: dict[str, Any] = {"pool_pre_ping": True}
    if address.get_backend_name() == "sqlite":
        refuse_network(address)
        options = {"connect_args": {"timeout": BUSY_SECONDS}}
    try:
        engine = sa.create_engine(address, **options)
    except NoSuchModuleError:
        raise UsageError(f"--storage: {address.drivername} is no database that SQLAlchemy knows; expected e.g. {EXAMPLE}") from None
    except ModuleNotFoundError as error:
        extra = "dlrun[postgres]" if address.get_backend_name() == "postgresql" else error.name
        raise MissingError(f"--storage: the driver {error.name} is not installed: pip install '{extra}'") from None
    if engine.dialect.name == "sqlite":
        _set_up_sqlite(engine)
    try:
        if make:
            _make_tables(engine)
    except sa.exc.DBAPIError as error:
        engine.dispose()
        raise MissingError(f"the study's database {shown(address)} does not answer: {_first(error.orig or error)}") from None
    return engine


def _make_tables(engine: sa.Engine) -> None:
    """Make what is missing; another driver may be making the same at this moment, and loses or wins."""
    try:
        with engine.begin() as connection:
            metadata.create_all(connection)
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError):
        with engine.begin() as connection:
            metadata.create_all(connection)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _set_up_sqlite(engine: sa.Engine) -> None:
    """Write-ahead log, and transactions that take the write lock when they begin: no two can both believe to take a job."""

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")  # a power cut may take the last rows; the run directories have them
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get("reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def refuse_network(address: sa.URL) -> None:
    """UsageError where a SQLite file would lie on another machine's disk."""
    file = address.database
    kind = file_system(os.path.dirname(os.path.abspath(file))) if file and file != ":memory:" else None
    if kind in NETWORK:
        raise UsageError(
            f"{file} would lie on a network disk ({kind}), where SQLite's locks do not hold: "
            f"say output_root=FOLDER on a local disk, or --storage {EXAMPLE}"
        )


def file_system(folder: str, mounts: str = "/proc/mounts") -> str | None:
    """The type of the file system that `folder` lies on; None where the system has no such list."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split() for line in file]
    except OSError:
        return None
    folder = os.path.realpath(folder)
    best, kind = "", None
    for entry in (entry for entry in lines if len(entry) > 2):
        point = entry[1].encode().decode("unicode_escape", "replace") if "\\" in entry[1] else entry[1]
        if (folder == point or folder.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):  # a later one covers an earlier
            best, kind = point, entry[2]
    return kind


def patiently(do: Callable[[], T]) -> T:
    """`do()`, again while the database is busy or out of reach, for a minute; MissingError then."""
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.05
    while True:
        try:
            return do()
        except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
            text = (str(error.orig or error).splitlines() or [""])[0]
            if any(word in text for word in HOPELESS) or time.monotonic() > deadline:
                raise MissingError(f"the study's database cannot be used: {text[:300]}") from error
        except sa.exc.IntegrityError:  # another driver entered the same at this moment: look again
            if time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 2.0)
