"""Add browser_tokens, tickets and login_calls

Why: a silent authentication must name the browser that asks, or a browser that was logged out is
signed in again by another one's session. Apps that may still name a user alone need the capability
silent_by_user for it; those that exist already get it here, so that they work on.
Safe while the previous release runs: yes. It does not know the tables, fills the new columns by
their defaults, and leaves alone what it does not know in capabilities, but for one thing: its
`apps set` refuses to change an app that has a capability it does not know. An app that it registers
after this has not got silent_by_user: give it with `apps set --allow`. A session that the new
release has ended as replaced is told by the previous one as expired.
Lost when it is taken back: browser tokens, tickets and the journal of logins, so that users sign in
anew; the apps' login methods, transfer addresses, and the capabilities silent_by_user, revoke_user
and offline.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _create_tables()
    with op.batch_alter_table("session_events") as events:
        events.alter_column("user_id", existing_type=sa.String(), nullable=True)
    with op.batch_alter_table("logout_requests") as requests:
        requests.alter_column("user_id", existing_type=sa.String(), nullable=True)
    nothing = sa.text("'[]'")
    op.add_column("apps", sa.Column("methods", sa.JSON(), server_default=nothing, nullable=False))
    op.add_column("apps", sa.Column("transfer_url", sa.String(), nullable=True))
    op.add_column(
        "apps", sa.Column("tickets_from", sa.JSON(), server_default=nothing, nullable=False)
    )
    op.execute(_GIVE[_dialect()])


def _create_tables() -> None:
    op.create_table(
        "browser_tokens",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("idp_session_id", sa.Uuid(), nullable=False),
        sa.Column("issued_to", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["idp_session_id"],
            ["idp_sessions.id"],
            name=op.f("fk_browser_tokens_idp_session_id_idp_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_browser_tokens")),
    )
    op.create_index("ix_browser_tokens_idp_session_id", "browser_tokens", ["idp_session_id"])

    op.create_table(
        "tickets",
        sa.Column("ticket_hash", sa.LargeBinary(), nullable=False),
        sa.Column("idp_session_id", sa.Uuid(), nullable=False),
        sa.Column("from_app", sa.String(), nullable=False),
        sa.Column("for_app", sa.String(), nullable=False),
        sa.Column("challenge", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_by", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(used_at IS NULL) = (used_by IS NULL)", name=op.f("ck_tickets_used_by_a_request")
        ),
        sa.ForeignKeyConstraint(
            ["idp_session_id"],
            ["idp_sessions.id"],
            name=op.f("fk_tickets_idp_session_id_idp_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("ticket_hash", name=op.f("pk_tickets")),
    )
    op.create_index("ix_tickets_expires_at", "tickets", ["expires_at"])
    op.create_index("ix_tickets_idp_session_id", "tickets", ["idp_session_id"])

    op.create_table(
        "login_calls",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("identifier_hash", sa.LargeBinary(), nullable=True),
        sa.Column("proof_hash", sa.LargeBinary(), nullable=True),
        sa.Column("idp_session_id", sa.Uuid(), nullable=True),
        sa.Column("handle_id", sa.Uuid(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("call_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("sealed_answer", sa.LargeBinary(), nullable=True),
        sa.Column("answer_until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(closed_at IS NULL) = (outcome IS NULL)",
            name=op.f("ck_login_calls_closed_with_outcome"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_calls")),
        sa.UniqueConstraint("app_id", "request_id", name=op.f("uq_login_calls_app_id_request_id")),
    )
    _create_index_where("answer_until", ["answer_until"], "sealed_answer IS NOT NULL")
    _create_index_where(
        "handle", ["handle_id"], "handle_id IS NOT NULL AND outcome = 'answered'", unique=True
    )
    _create_index_where("proof", ["app_id", "proof_hash"], "proof_hash IS NOT NULL", unique=True)
    op.create_index("ix_login_calls_sent_at", "login_calls", ["sent_at"])
    _create_index_where("unknown", ["app_id", "identifier_hash"], "outcome = 'unknown'")


def _create_index_where(
    name: str, columns: list[str], condition: str, *, unique: bool = False
) -> None:
    op.create_index(
        f"ix_login_calls_{name}",
        "login_calls",
        columns,
        unique=unique,
        postgresql_where=sa.text(condition),
        sqlite_where=sa.text(condition),
    )


def _dialect() -> str:
    return op.get_context().dialect.name


# In SQL, and not row by row: a database administrator may want to read it before it runs.
_GIVE = {
    "postgresql": """
        UPDATE apps SET capabilities = CAST(
            CAST(capabilities AS jsonb) || CAST('["silent_by_user"]' AS jsonb) AS json)
        WHERE NOT CAST(capabilities AS jsonb) @> CAST('["silent_by_user"]' AS jsonb)
    """,
    "sqlite": """
        UPDATE apps SET capabilities = json_insert(capabilities, '$[#]', 'silent_by_user')
        WHERE NOT EXISTS (SELECT 1 FROM json_each(capabilities) WHERE value = 'silent_by_user')
    """,
}
_TAKE = {
    "postgresql": """
        UPDATE apps SET capabilities = (
            SELECT coalesce(json_agg(name ORDER BY place), '[]')
            FROM json_array_elements_text(capabilities) WITH ORDINALITY AS had (name, place)
            WHERE name NOT IN ('silent_by_user', 'revoke_user', 'offline'))
    """,
    "sqlite": """
        UPDATE apps SET capabilities = (
            SELECT json_group_array(value) FROM json_each(apps.capabilities)
            WHERE value NOT IN ('silent_by_user', 'revoke_user', 'offline'))
    """,
}


def downgrade() -> None:
    op.execute(_TAKE[_dialect()])
    for column in ("tickets_from", "transfer_url", "methods"):
        op.drop_column("apps", column)
    # The previous release knows no "replaced" and would take it for an end that Mosaic may undo.
    op.execute("UPDATE idp_sessions SET end_cause = 'logout' WHERE end_cause = 'replaced'")
    op.execute("UPDATE notices SET cause = 'logout' WHERE cause = 'replaced'")
    # Kept, under an empty id, which no user has.
    op.execute("UPDATE session_events SET user_id = '' WHERE user_id IS NULL")
    op.execute("UPDATE logout_requests SET user_id = '' WHERE user_id IS NULL")
    with op.batch_alter_table("logout_requests") as requests:
        requests.alter_column("user_id", existing_type=sa.String(), nullable=False)
    with op.batch_alter_table("session_events") as events:
        events.alter_column("user_id", existing_type=sa.String(), nullable=False)
    for name in ("unknown", "sent_at", "proof", "handle", "answer_until"):
        op.drop_index(f"ix_login_calls_{name}", table_name="login_calls")

    op.drop_table("login_calls")
    op.drop_index("ix_tickets_idp_session_id", table_name="tickets")
    op.drop_index("ix_tickets_expires_at", table_name="tickets")

    op.drop_table("tickets")
    op.drop_index("ix_browser_tokens_idp_session_id", table_name="browser_tokens")

    op.drop_table("browser_tokens")
