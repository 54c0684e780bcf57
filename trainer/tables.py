"""The tables of meta.db. A change here needs a migration in trainer/migrations."""

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text

tables = MetaData()

runs = Table(
    "runs",
    tables,
    Column("id", String(26), primary_key=True),  # ULID: sorted by name is sorted by time
    Column("config", Text, nullable=False),
    Column("state", String(12), nullable=False),
    Column("reason", Text, nullable=False, default=""),  # why it failed or waits, for people
    Column("attempt", Integer, nullable=False, default=0),
    Column("idle_attempts", Integer, nullable=False, default=0),  # in a row, without a new snapshot
    Column("stop_wanted", Integer, nullable=False, default=0),
    Column("created", Float, nullable=False),  # seconds since 1970
    Column("started", Float),
    Column("ended", Float),
    Column("note", String(64), nullable=False, default=""),  # "train all" writes the same one on its runs
    Column("owner", String(80), nullable=False, default="", server_default=""),  # whose it is in a class: name#tag
    Column("alone", Integer, nullable=False, default=0, server_default="0"),  # it may not train beside others
    Column("minutes", Integer, nullable=False, default=0, server_default="0"),  # at a stretch; 0: any number
    Index("ix_runs_state_id", "state", "id"),  # the oldest that waits, of ten thousand
)

snapshots = Table(
    "snapshots",
    tables,
    Column("run", String(26), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("facts", Text, nullable=False),  # JSON: epoch, seconds, metrics, knobs, turned
    Column("sha256", String(64), nullable=False),
)

wanted = Table(  # pictures that somebody is waiting for
    "wanted",
    tables,
    Column("run", String(26), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("asked", Float, nullable=False),
    Column("state", String(8), nullable=False, default="waiting"),  # waiting, working, failed
    Column("reason", Text, nullable=False, default=""),
)

jobs = Table(  # datasets to fetch, import or decode
    "jobs",
    tables,
    Column("id", String(26), primary_key=True),
    Column("arguments", Text, nullable=False),  # JSON list: the arguments of `python -m trainer data`
    Column("state", String(12), nullable=False, index=True),
    Column("reason", Text, nullable=False, default=""),
    Column("created", Float, nullable=False),
    Column("owner", String(80), nullable=False, default="", server_default=""),  # who asked for it
)

audit = Table(  # every change of a run's state
    "audit",
    tables,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", String(26), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("edge", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reason", Text, nullable=False, default=""),
)
