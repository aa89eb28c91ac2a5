"""Add the indexes of what is looked for again and again

Why: each worker counts every 15 s what was dead-lettered, and each run of expiry looks for calls
of logins whose answer no worker has heard. Both read whole tables that grow.
Safe while the previous release runs: yes, no user waits while they are built.
Lost when it is taken back: nothing.
"""

from __future__ import annotations

from alembic import op

from migrations.indexes import add_index

revision = "0012"
down_revision = "0011"

LOST = "outcome IN ('dead', 'failed', 'expired_unconfirmed')"
INDEXES = {
    "ix_logouts_lost": ("logouts", ("outcome", "created_at"), LOST),
    "ix_user_revocations_lost": ("user_revocations", ("outcome", "created_at"), LOST),
    "ix_user_revocations_user_id_created_at": (
        "user_revocations",
        ("user_id", "created_at"),
        None,
    ),
    "ix_login_calls_open": ("login_calls", ("call_until",), "closed_at IS NULL"),
}


def upgrade() -> None:
    for name, (table, columns, where) in INDEXES.items():
        add_index(name, table, columns, where=where)


def downgrade() -> None:
    for name, (table, _, _) in reversed(INDEXES.items()):
        op.drop_index(name, table_name=table)
