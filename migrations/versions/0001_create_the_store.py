"""Create the store

Why: the worker must know which Mosaic sessions a user has, which apps share them, and what
Mosaic must still be told.
Safe while the previous release runs: yes, there is none yet.
Lost when it is taken back: everything.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "apps",
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("client_id", sa.String(), nullable=False),
        sa.Column("sealed_client_secret", sa.LargeBinary(), nullable=False),
        sa.Column("amr_all_of", sa.JSON(), nullable=False),
        sa.Column("amr_any_of", sa.JSON(), nullable=False),
        sa.Column("max_age_seconds", sa.Integer(), nullable=True),
        sa.Column("capabilities", sa.JSON(), nullable=False),
        sa.Column("base_url", sa.String(), nullable=True),
        sa.Column("token_url", sa.String(), nullable=True),
        sa.Column("jwks_url", sa.String(), nullable=True),
        sa.Column("issuer", sa.String(), nullable=True),
        sa.Column("session_lifetime_seconds", sa.Integer(), nullable=True),
        sa.Column("notice_method", sa.String(), nullable=True),
        sa.Column("notice_address", sa.String(), nullable=True),
        sa.Column(
            "notify_on_expiry", sa.Boolean(), server_default=sa.text("(false)"), nullable=False
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(notice_method IS NULL) = (notice_address IS NULL)",
            name=op.f("ck_apps_notice_has_address"),
        ),
        sa.PrimaryKeyConstraint("app_id", name=op.f("pk_apps")),
        sa.UniqueConstraint("client_id", name=op.f("uq_apps_client_id")),
    )
    op.create_table(
        "idp_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_session_id", sa.LargeBinary(), nullable=True),
        sa.Column("device_id", sa.String(), nullable=True),
        sa.Column("registered_by", sa.String(), nullable=False),
        sa.Column("amr", sa.JSON(), nullable=False),
        sa.Column("authenticated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("amr_as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_cause", sa.String(), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (end_cause IS NULL)",
            name=op.f("ck_idp_sessions_ended_with_cause"),
        ),
        sa.CheckConstraint(
            "ended_at IS NOT NULL OR sealed_session_id IS NOT NULL",
            name=op.f("ck_idp_sessions_live_is_usable"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idp_sessions")),
        sa.UniqueConstraint("session_hash", name=op.f("uq_idp_sessions_session_hash")),
    )
    op.create_index(
        "ix_idp_sessions_ended",
        "idp_sessions",
        ["ended_at", "id"],
        postgresql_where=sa.text("ended_at IS NOT NULL"),
        sqlite_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_idp_sessions_live_by_age",
        "idp_sessions",
        ["created_at"],
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_idp_sessions_live_by_expiry",
        "idp_sessions",
        ["expires_at", "id"],
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_idp_sessions_live_by_user",
        "idp_sessions",
        ["user_id", "expires_at"],
        postgresql_where=sa.text("ended_at IS NULL"),
        sqlite_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_idp_sessions_user_id_created_at", "idp_sessions", ["user_id", "created_at"])

    op.create_table(
        "session_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("idp_session_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("correlation_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_events")),
    )
    op.create_index("ix_session_events_at", "session_events", ["at"])
    op.create_index(
        "ix_session_events_idp_session_id_at", "session_events", ["idp_session_id", "at"]
    )

    op.create_table(
        "user_watermarks",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("logged_out_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_user_watermarks")),
    )
    op.create_index("ix_user_watermarks_logged_out_at", "user_watermarks", ["logged_out_at"])

    op.create_table(
        "app_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("kid", sa.String(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["app_id"], ["apps.app_id"], name=op.f("fk_app_keys_app_id_apps"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_app_keys")),
        sa.UniqueConstraint("app_id", "kid", name=op.f("uq_app_keys_app_id_kid")),
    )
    op.create_table(
        "app_sessions",
        sa.Column("idp_session_id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("first_authenticated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_authenticated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("access_token_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["app_id"], ["apps.app_id"], name=op.f("fk_app_sessions_app_id_apps")
        ),
        sa.ForeignKeyConstraint(
            ["idp_session_id"],
            ["idp_sessions.id"],
            name=op.f("fk_app_sessions_idp_session_id_idp_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("idp_session_id", "app_id", name=op.f("pk_app_sessions")),
    )
    op.create_index("ix_app_sessions_app_id", "app_sessions", ["app_id"])

    op.create_table(
        "logout_requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("sessions_ended", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["app_id"], ["apps.app_id"], name=op.f("fk_logout_requests_app_id_apps")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logout_requests")),
        sa.UniqueConstraint(
            "app_id", "request_id", name=op.f("uq_logout_requests_app_id_request_id")
        ),
    )
    op.create_index("ix_logout_requests_created_at", "logout_requests", ["created_at"])

    op.create_table(
        "logouts",
        sa.Column("idp_session_id", sa.Uuid(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("give_up_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("woken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(closed_at IS NULL) = (outcome IS NULL)", name=op.f("ck_logouts_closed_with_outcome")
        ),
        sa.ForeignKeyConstraint(
            ["idp_session_id"],
            ["idp_sessions.id"],
            name=op.f("fk_logouts_idp_session_id_idp_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logouts")),
        sa.UniqueConstraint("idp_session_id", name=op.f("uq_logouts_idp_session_id")),
    )
    op.create_index(
        "ix_logouts_due",
        "logouts",
        ["next_attempt_at"],
        postgresql_where=sa.text("closed_at IS NULL"),
        sqlite_where=sa.text("closed_at IS NULL"),
    )

    op.create_table(
        "notices",
        sa.Column("idp_session_id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("give_up_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("woken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(closed_at IS NULL) = (outcome IS NULL)", name=op.f("ck_notices_closed_with_outcome")
        ),
        sa.ForeignKeyConstraint(["app_id"], ["apps.app_id"], name=op.f("fk_notices_app_id_apps")),
        sa.ForeignKeyConstraint(
            ["idp_session_id"],
            ["idp_sessions.id"],
            name=op.f("fk_notices_idp_session_id_idp_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sa.UniqueConstraint(
            "idp_session_id", "app_id", name=op.f("uq_notices_idp_session_id_app_id")
        ),
    )
    op.create_index("ix_notices_app_id", "notices", ["app_id"])
    op.create_index(
        "ix_notices_due",
        "notices",
        ["next_attempt_at"],
        postgresql_where=sa.text("closed_at IS NULL"),
        sqlite_where=sa.text("closed_at IS NULL"),
    )
    op.create_index(
        "ix_notices_failed",
        "notices",
        ["closed_at"],
        postgresql_where=sa.text("outcome IN ('failed', 'dead')"),
        sqlite_where=sa.text("outcome IN ('failed', 'dead')"),
    )

    op.create_table(
        "session_aliases",
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("idp_session_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["idp_session_id"],
            ["idp_sessions.id"],
            name=op.f("fk_session_aliases_idp_session_id_idp_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_hash", name=op.f("pk_session_aliases")),
    )
    op.create_index("ix_session_aliases_idp_session_id", "session_aliases", ["idp_session_id"])

    op.create_table(
        "logout_request_sessions",
        sa.Column("logout_request_id", sa.Uuid(), nullable=False),
        sa.Column("idp_session_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["idp_session_id"],
            ["idp_sessions.id"],
            name=op.f("fk_logout_request_sessions_idp_session_id_idp_sessions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["logout_request_id"],
            ["logout_requests.id"],
            name=op.f("fk_logout_request_sessions_logout_request_id_logout_requests"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "logout_request_id", "idp_session_id", name=op.f("pk_logout_request_sessions")
        ),
    )
    op.create_index(
        "ix_logout_request_sessions_idp_session_id", "logout_request_sessions", ["idp_session_id"]
    )


def downgrade() -> None:
    op.drop_index("ix_logout_request_sessions_idp_session_id", table_name="logout_request_sessions")

    op.drop_table("logout_request_sessions")
    op.drop_index("ix_session_aliases_idp_session_id", table_name="session_aliases")

    op.drop_table("session_aliases")
    op.drop_index("ix_notices_failed", table_name="notices")
    op.drop_index("ix_notices_due", table_name="notices")
    op.drop_index("ix_notices_app_id", table_name="notices")

    op.drop_table("notices")
    op.drop_index("ix_logouts_due", table_name="logouts")

    op.drop_table("logouts")
    op.drop_index("ix_logout_requests_created_at", table_name="logout_requests")

    op.drop_table("logout_requests")
    op.drop_index("ix_app_sessions_app_id", table_name="app_sessions")

    op.drop_table("app_sessions")
    op.drop_table("app_keys")
    op.drop_index("ix_user_watermarks_logged_out_at", table_name="user_watermarks")

    op.drop_table("user_watermarks")
    op.drop_index("ix_session_events_idp_session_id_at", table_name="session_events")
    op.drop_index("ix_session_events_at", table_name="session_events")

    op.drop_table("session_events")
    op.drop_index("ix_idp_sessions_user_id_created_at", table_name="idp_sessions")
    op.drop_index("ix_idp_sessions_live_by_user", table_name="idp_sessions")
    op.drop_index("ix_idp_sessions_live_by_expiry", table_name="idp_sessions")
    op.drop_index("ix_idp_sessions_live_by_age", table_name="idp_sessions")
    op.drop_index("ix_idp_sessions_ended", table_name="idp_sessions")

    op.drop_table("idp_sessions")
    op.drop_table("apps")
