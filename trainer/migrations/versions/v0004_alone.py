"""Runs that ran out of memory and train alone."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    """Say of each run whether it must train alone; none of before must."""
    op.add_column("runs", sa.Column("alone", sa.Integer, nullable=False, server_default="0"))
