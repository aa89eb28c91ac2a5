"""Add notices.published_at

Why: a notice that lies unread in an app's queue must not be sent again, and while something lies
there that was published before it, it was not taken.
Safe while the previous release runs: yes. It does not know the column and leaves it empty, which
says that the notice was never put on a queue: the new release sends it once more.
Lost when it is taken back: when notices were put on queues. Each that is open is sent once more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("notices", sa.Column("published_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("notices", "published_at")
