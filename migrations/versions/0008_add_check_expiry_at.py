"""Add idp_sessions.check_expiry_at

Why: each silent authentication moves expires_at. With expires_at in an index PostgreSQL has to
write the row's new place into every index of the table; without, it mostly writes the row alone.
So expiry finds sessions by a column of its own, which is never after expires_at, and which it puts
off itself. All sessions that are there are looked at by the next runs. Its index comes by a step of
its own: built in this one, it would keep all who use the table waiting.
Safe while the previous release runs: yes. Its sessions are looked at by the next run.
Lost when it is taken back: nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column(
        "idp_sessions",
        sa.Column(
            "check_expiry_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("'1970-01-01 00:00:00'"),
            nullable=False,
        ),
    )
    if _is_postgresql():
        # For pages that are written from now on.
        op.execute("ALTER TABLE idp_sessions SET (fillfactor = 90)")


def downgrade() -> None:
    if _is_postgresql():
        op.execute("ALTER TABLE idp_sessions RESET (fillfactor)")
    # Of a checkout whose 0008 replaced the index itself.
    op.execute("DROP INDEX IF EXISTS ix_idp_sessions_live_by_check")
    op.drop_column("idp_sessions", "check_expiry_at")
    op.execute(
        "CREATE INDEX IF NOT EXISTS ix_idp_sessions_live_by_expiry"
        " ON idp_sessions (expires_at, id) WHERE ended_at IS NULL"
    )


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"
