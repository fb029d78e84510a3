"""What Alembic runs: the missing revisions, on the connection and in the transaction that `service.database` holds."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
