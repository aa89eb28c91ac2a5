"""Whether a worker may start on the database's schema."""

from __future__ import annotations

from migrations import target


def schema_trouble(revision: str | None) -> str | None:
    """Say why no worker starts on a database at *revision*; None when one does."""
    if revision == target.head():
        return None
    if revision is not None and not target.knows(revision):
        return (
            f"the database is at {revision}, which is newer than this release: deploy the newer "
            "one, or have it take the schema back (mosaic-sessions db downgrade)"
        )
    return (
        f"the database is at {revision or 'nothing'}, this release needs {target.head()}: "
        "run `mosaic-sessions db upgrade`"
    )
