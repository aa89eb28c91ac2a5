"""Create user_revocations

Why: what Mosaic knows of a revoked user must be ended there, also what was never registered, and
outlast a crash and an outage of Mosaic.
Safe while the previous release runs: yes, it does not know the table. It purges the receipts a row
hangs on, two days after they were written at the earliest.
Lost when it is taken back: what Mosaic must still be told of revoked users.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "user_revocations",
        sa.Column("logout_request_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("began_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("frontend", sa.Boolean(), nullable=False),
        sa.Column("backend_ended_at", sa.DateTime(timezone=True), nullable=True),
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
            "(closed_at IS NULL) = (outcome IS NULL)",
            name=op.f("ck_user_revocations_closed_with_outcome"),
        ),
        sa.ForeignKeyConstraint(
            ["logout_request_id"],
            ["logout_requests.id"],
            name=op.f("fk_user_revocations_logout_request_id_logout_requests"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_revocations")),
        sa.UniqueConstraint(
            "logout_request_id", name=op.f("uq_user_revocations_logout_request_id")
        ),
    )
    op.create_index(
        "ix_user_revocations_due",
        "user_revocations",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NULL"),
        sqlite_where=sa.text("closed_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("user_revocations")
