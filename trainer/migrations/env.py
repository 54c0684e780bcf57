"""Alembic's entry: bring the database, whose connection the store hands over, to the newest tables."""

from alembic import context

from trainer.tables import tables

context.configure(connection=context.config.attributes["connection"], target_metadata=tables, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
