"""Runs that may train for so long at a stretch: those of students, in a class."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    """Say of each run for how many minutes it may train at a stretch; those of before for any number."""
    op.add_column("runs", sa.Column("minutes", sa.Integer, nullable=False, server_default="0"))
