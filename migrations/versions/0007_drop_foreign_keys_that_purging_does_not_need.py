"""Drop the foreign keys that purging does not need

Why: for each session that is purged the database looked for its rows in seven tables, one by one.
That cost four times what deleting the session did. Five of them hold nothing that is owed to
anybody. The purge deletes the rows of three by itself, a whole batch at a time; tickets and the
sessions of a logout request have a time of their own.
Safe while the previous release runs: yes, but for one thing: its purge, once a day, leaves behind
what names the sessions it deletes. Nothing finds such rows, and nothing deletes them: stop its beat
first.
Lost when it is taken back: the rows that name a session which was purged; nothing finds them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = (
    "app_sessions",
    "browser_tokens",
    "logout_request_sessions",
    "session_aliases",
    "tickets",
)


def upgrade() -> None:
    for table in TABLES:
        with op.batch_alter_table(table, table_args=_checks(table)) as altered:
            altered.drop_constraint(_key(table), type_="foreignkey")
    # Only the foreign key looked there.
    op.drop_index("ix_logout_request_sessions_idp_session_id", table_name="logout_request_sessions")


def downgrade() -> None:
    for table in TABLES:
        op.execute(
            f"DELETE FROM {table} WHERE NOT EXISTS"  # noqa: S608 - our own names
            f" (SELECT 1 FROM idp_sessions WHERE id = {table}.idp_session_id)"
        )
        with op.batch_alter_table(table, table_args=_checks(table)) as altered:
            altered.create_foreign_key(
                _key(table), "idp_sessions", ["idp_session_id"], ["id"], ondelete="CASCADE"
            )
    op.create_index(
        "ix_logout_request_sessions_idp_session_id", "logout_request_sessions", ["idp_session_id"]
    )


def _key(table: str) -> str:
    return op.f(f"fk_{table}_idp_session_id_idp_sessions")


def _checks(table: str) -> tuple[sa.CheckConstraint, ...]:
    # SQLite copies the table, and Alembic does not see the checks of the one it copies.
    if table != "tickets":
        return ()
    return (
        sa.CheckConstraint(
            "(used_at IS NULL) = (used_by IS NULL)", name=op.f("ck_tickets_used_by_a_request")
        ),
    )
