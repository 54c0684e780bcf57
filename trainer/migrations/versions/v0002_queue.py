"""An index that finds the oldest waiting run of very many."""

from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Index runs by state and id instead of by state."""
    op.drop_index("ix_runs_state", "runs")
    op.create_index("ix_runs_state_id", "runs", ["state", "id"])
