"""Add apps.token_endpoint_auth_method

Why: A client may prove itself to Mosaic by a private key in place of a secret.
Safe while the previous release runs: yes, as long as no app is given a key. That release would send
the key to Mosaic as if it were a secret: change no app to a key before all workers are of this one.
Lost when it is taken back: nothing, since it is not while an app has a key. Give each of them a
secret first: `mosaic-sessions apps set APP --client-secret-file FILE`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column(
        "apps",
        sa.Column(
            "token_endpoint_auth_method",
            sa.String(),
            server_default=sa.text("'client_secret_post'"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    keyed = "SELECT app_id FROM apps WHERE token_endpoint_auth_method <> 'client_secret_post'"
    apps = op.get_bind().execute(sa.text(keyed)).scalars().all()
    if apps:
        # The release before would send the key to Mosaic as if it were a secret.
        raise CommandError(
            f"the clients of {', '.join(sorted(apps))} have keys: give each a secret first"
            " (mosaic-sessions apps set APP --client-secret-file FILE)"
        )
    op.drop_column("apps", "token_endpoint_auth_method")
