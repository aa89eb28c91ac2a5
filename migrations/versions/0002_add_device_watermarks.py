"""Add device_watermarks

Why: a login from before the logout of its device may be registered only afterwards, and must then
be born ended. A table of its own: user_watermarks is keyed by the user alone, and the previous
release writes it by that key.
Safe while the previous release runs: yes, it does not know the table. Its device logouts leave no
mark, and its registrations look for none, as before.
Lost when it is taken back: the marks of device logouts. A login from before one that is registered
later lives on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "device_watermarks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("app_id", sa.String(), nullable=False),
        sa.Column("logged_out_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_watermarks")),
        sa.UniqueConstraint(
            "user_id",
            "device_id",
            "app_id",
            name=op.f("uq_device_watermarks_user_id_device_id_app_id"),
        ),
    )
    op.create_index("ix_device_watermarks_logged_out_at", "device_watermarks", ["logged_out_at"])


def downgrade() -> None:
    op.drop_index("ix_device_watermarks_logged_out_at", table_name="device_watermarks")

    op.drop_table("device_watermarks")
