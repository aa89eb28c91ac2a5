"""Add idp_sessions.factor_added_at

Why: Mosaic may keep the time of the login in the tokens of a session that a factor was added to.
By that time alone a maximum age would ask for one factor after the other.
Safe while the previous release runs: yes. It does not know the column and leaves it empty, which
says that no factor was added: at worst the user is asked for another one.
Lost when it is taken back: when factors were added. At worst their users are asked for another one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column(
        "idp_sessions", sa.Column("factor_added_at", sa.DateTime(timezone=True), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("idp_sessions", "factor_added_at")
