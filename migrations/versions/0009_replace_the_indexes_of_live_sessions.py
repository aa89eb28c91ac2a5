"""Replace the indexes of live sessions

Why: those that held expires_at were to be written by each silent authentication; expiry finds
sessions by check_expiry_at now.
Safe while the previous release runs: yes, no user waits while they are built. Its expiry reads all
live sessions for each batch until it is gone.
Lost when it is taken back: nothing.
"""

from __future__ import annotations

from migrations.indexes import replace_indexes

revision = "0009"
down_revision = "0008"

TABLE = "idp_sessions"
LIVE = "ended_at IS NULL"
BY_USER = "ix_idp_sessions_live_by_user"
BY_CHECK = "ix_idp_sessions_live_by_check"
BY_EXPIRY = "ix_idp_sessions_live_by_expiry"


def upgrade() -> None:
    wanted = {BY_CHECK: ("check_expiry_at", "id"), BY_USER: ("user_id",)}
    replace_indexes(TABLE, wanted, where=LIVE, dropped=(BY_EXPIRY,))


def downgrade() -> None:
    wanted = {BY_EXPIRY: ("expires_at", "id"), BY_USER: ("user_id", "expires_at")}
    replace_indexes(TABLE, wanted, where=LIVE, dropped=(BY_CHECK,))
