"""The database behind a store: SQLite in the home, or the one that `FACES_STORE` names, a Postgres for many servers.

    FACES_STORE=postgresql+psycopg://faces@db.school.example/faces     with `uv pip install "psycopg[binary]"`

One Postgres database belongs to one home: its rows say which runs there are; their files are in the home, or where
`FACES_FILES` says (`faces.home.runs`).
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Engine,
    Table,
    cast,
    create_engine,
    event,
    func,
    inspect,
    make_url,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, DisconnectionError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, Pool, QueuePool

from faces.files import aside, make
from faces.seals import DamagedError

SAFE_WAL = sqlite3.sqlite_version_info >= (3, 51, 3)  # earlier ones can corrupt a WAL that two processes write
REFUSALS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS, sqlite3.SQLITE_CANTOPEN: errno.EROFS,
}  # fmt: skip
DAMAGE = {None, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
DAMAGED = (
    "The list of runs (meta.db) is damaged and is not used. It is rebuilt from the runs' own files when the trainer "
    "starts, in a moment; if this stays, stop Faces and start it again."
)
LOCK = 0x0FACE5  # the number of the lock that writers of a Postgres store take


def engine(home: Path, pool: type[Pool] = NullPool) -> Engine:
    """Connections to a home's database. ValueError, in one sentence, for a `FACES_STORE` that cannot be."""
    make(home)  # its files lie there, whatever keeps its rows
    url = os.environ.get("FACES_STORE")
    return _served(url) if url else _file(home, pool)


def writer(home: Path) -> Engine:
    """Connections whose transactions have the write lock from their first line on."""
    made = engine(home)
    lock = "BEGIN IMMEDIATE" if made.name == "sqlite" else f"SELECT pg_advisory_xact_lock({LOCK})"
    event.listen(made, "begin", lambda db: db.exec_driver_sql(lock))
    return made


def revision(db: Connection) -> str | None:
    """Which tables the database has; None when it has none yet."""
    if inspect(db).has_table("alembic_version"):
        return db.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None


def content(home: Path) -> bytes:
    """All of a home's own database, as one who reads it now would find it."""
    with closing(sqlite3.connect(home / "meta.db")) as db:
        return db.serialize()


def field(of: Engine, column: Any, name: str) -> ColumnElement[Any]:
    """A field of a column that holds JSON as text, as text."""
    return func.json_extract(column, f"$.{name}") if of.name == "sqlite" else cast(column, JSON)[name].as_string()


def upsert(db: Connection, table: Table) -> Any:
    """An insert that can say what happens to a row that is there already."""
    dialect = import_module(f"sqlalchemy.dialects.{db.dialect.name}")  # Postgres' takes a tenth of a second to load
    return dialect.insert(table)


def refusal(error: OperationalError) -> int | None:
    """The errno of a disk that is full or read-only, where that is why SQLite could not write."""
    return REFUSALS.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)


@contextmanager
def in_words() -> Iterator[None]:
    """DamagedError where SQLite finds that its file is not what was written, or something in it that cannot be."""
    try:
        yield
    except DatabaseError as error:
        if isinstance(error.orig, sqlite3.Error) and getattr(error.orig, "sqlite_errorcode", None) in DAMAGE:
            raise DamagedError(DAMAGED) from error
        raise


def check(db: Connection) -> None:
    """DamagedError for a SQLite file that is damaged, as far as SQLite can tell: it keeps no checksums."""
    if db.exec_driver_sql("PRAGMA integrity_check(1)").scalar() != "ok":
        raise DamagedError(DAMAGED)


def set_aside(home: Path) -> None:
    """Give a home's database another name; those who have it open notice at their next look."""
    aside(*home.glob("meta.db-*"), home / "meta.db")


def _file(home: Path, pool: type[Pool]) -> Engine:
    made = create_engine(
        f"sqlite:///{home / 'meta.db'}", poolclass=pool, connect_args={"timeout": 10, "check_same_thread": False}
    )

    def identity() -> int:
        return os.stat(home / "meta.db").st_ino

    def connected(raw: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        raw.isolation_level = None  # transactions begin where we say so
        raw.execute(f"PRAGMA journal_mode={'WAL' if SAFE_WAL else 'TRUNCATE'}")
        raw.execute("PRAGMA synchronous=FULL")
        record.info["file"] = identity()

    def taken(_: sqlite3.Connection, record: ConnectionPoolEntry, __: Any) -> None:
        try:
            same = record.info["file"] == identity()
        except FileNotFoundError:
            same = False
        if not same:
            raise DisconnectionError("Another file has taken the place of meta.db.")

    event.listen(made, "connect", connected)
    event.listen(made, "checkout", taken)
    return made


def _served(url: str) -> Engine:
    try:
        kind = make_url(url).get_backend_name()
        if kind != "postgresql":
            raise ValueError(f"FACES_STORE names a database of the kind {kind}; what works is postgresql, or none.")
        return create_engine(url, poolclass=QueuePool, pool_pre_ping=True)
    except ArgumentError:
        raise ValueError("FACES_STORE is no address such as postgresql+psycopg://user@host/database.") from None
    except ModuleNotFoundError as error:
        raise ValueError(f'{error.name} is not installed; this installs it: uv pip install "psycopg[binary]"') from None
