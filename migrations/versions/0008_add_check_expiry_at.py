"""Add idp_sessions.check_expiry_at

Why: each silent authentication moves expires_at. With expires_at in an index PostgreSQL has to
write the row's new place into every index of the table; without, it mostly writes the row alone.
So expiry finds sessions by a column of its own, which is never after expires_at, and which it puts
off itself. All sessions that are there are looked at by the next runs.
Safe while the previous release runs: yes. Its sessions are looked at by the next run; its expiry
reads all live sessions for each batch until it is gone.
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
    op.drop_index("ix_idp_sessions_live_by_expiry", table_name="idp_sessions")
    op.drop_index("ix_idp_sessions_live_by_user", table_name="idp_sessions")
    _create_index_of_live("by_check", "check_expiry_at", "id")
    _create_index_of_live("by_user", "user_id")
    if _is_postgresql():
        # For pages that are written from now on.
        op.execute("ALTER TABLE idp_sessions SET (fillfactor = 90)")


def downgrade() -> None:
    if _is_postgresql():
        op.execute("ALTER TABLE idp_sessions RESET (fillfactor)")
    op.drop_index("ix_idp_sessions_live_by_user", table_name="idp_sessions")
    op.drop_index("ix_idp_sessions_live_by_check", table_name="idp_sessions")
    op.drop_column("idp_sessions", "check_expiry_at")
    _create_index_of_live("by_user", "user_id", "expires_at")
    _create_index_of_live("by_expiry", "expires_at", "id")


def _create_index_of_live(name: str, *columns: str) -> None:
    condition = sa.text("ended_at IS NULL")
    op.create_index(
        f"ix_idp_sessions_live_{name}",
        "idp_sessions",
        list(columns),
        postgresql_where=condition,
        sqlite_where=condition,
    )


def _is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"
