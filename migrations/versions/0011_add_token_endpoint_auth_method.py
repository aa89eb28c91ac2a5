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

KEYED = "FROM apps WHERE token_endpoint_auth_method <> 'client_secret_post'"
WHAT_TO_DO = (
    "have keys: give each a secret first (mosaic-sessions apps set APP --client-secret-file FILE)"
)


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
    # The release before would send the key to Mosaic as if it were a secret.
    if op.get_context().as_sql:
        _refuse_where_it_is_run()
    else:
        keyed = op.get_bind().execute(sa.text(f"SELECT app_id {KEYED}")).scalars().all()
        if keyed:
            raise CommandError(f"the clients of {', '.join(sorted(keyed))} {WHAT_TO_DO}")
    op.drop_column("apps", "token_endpoint_auth_method")


def _refuse_where_it_is_run() -> None:
    """Have printed SQL end with an error there: nobody looks while it is printed."""
    if op.get_context().dialect.name == "sqlite":
        raise CommandError("a SQLite is taken back by mosaic-sessions db downgrade alone")
    op.execute(
        f"DO $$BEGIN IF EXISTS (SELECT {KEYED}) THEN"
        f" RAISE EXCEPTION 'clients of apps {WHAT_TO_DO}'; END IF; END$$"
    )
