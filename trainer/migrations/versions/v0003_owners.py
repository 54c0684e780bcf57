"""Whose runs and data jobs are, in a class."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Say of each run and each data job whose it is; those of before are nobody's."""
    for table in ("runs", "jobs"):
        op.add_column(table, sa.Column("owner", sa.String(80), nullable=False, server_default=""))
