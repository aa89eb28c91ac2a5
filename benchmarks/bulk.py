"""A million sessions in a moment, written by the database itself.

Their sealed ids are noise, so no worker can use them: they are there to be looked past, expired and
purged. Of every ten, six are live, two are past their expiry, and two ended long ago.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import create_engine, text

from benchmarks import people

OVERDUE_OF_TEN: Final = 2
ENDED_OF_TEN: Final = 2
SESSIONS_A_USER: Final = 2

_SESSIONS: Final = f"""
INSERT INTO idp_sessions (
    id, user_id, session_hash, sealed_session_id, device_id, registered_by, amr, authenticated_at,
    amr_as_of, created_at, last_used_at, expires_at, check_expiry_at, ended_at, end_cause, version)
SELECT
    uuidv7(), 'bulk-' || lpad((i / {SESSIONS_A_USER})::text, 8, '0'), sha256(i::text::bytea),
    CASE WHEN NOT is_ended THEN decode(repeat(md5(i::text), 4), 'hex') END,
    NULL, '{people.APP_IDS[0]}', '["pwd"]'::json, born, born, born, born,
    expires, expires,
    CASE WHEN is_ended THEN now() - interval '40 days' - (i % 100000) * interval '1 s' END,
    CASE WHEN is_ended THEN 'logout' END,
    1
FROM (
    SELECT i, is_ended,
        CASE WHEN is_overdue THEN now() - interval '1 hour' - (i % 1000) * interval '1 s'
             WHEN is_ended THEN now() - interval '40 days'
             ELSE now() + (1 + i % 13) * interval '1 day' END AS expires,
        now() - CASE WHEN is_ended THEN interval '50 days' ELSE interval '13 days' END
            + (i % 100000) * interval '1 s' AS born
    FROM (
        SELECT i, (i / {SESSIONS_A_USER}) % 10 < {OVERDUE_OF_TEN} AS is_overdue,
            (i / {SESSIONS_A_USER}) % 10 >= 10 - {ENDED_OF_TEN} AS is_ended
        FROM generate_series(0, CAST(:count AS integer) - 1) AS i
    ) AS kinds
) AS ages
"""  # noqa: S608 - our own constants
_LINKS: Final = f"""
INSERT INTO app_sessions (idp_session_id, app_id, first_authenticated_at, last_authenticated_at)
SELECT id, '{people.APP_IDS[0]}', created_at, created_at FROM idp_sessions
WHERE user_id LIKE 'bulk-%'
"""  # noqa: S608 - our own constants


def fill(database_url: str, count: int) -> None:
    """Write *count* sessions of other users, each shared by one app."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(_SESSIONS), {"count": count})
        connection.execute(text(_LINKS))
        connection.execute(text("VACUUM ANALYZE"))
        # As on a server that has run for a while: the log's old files are there to be written
        # again. Making new ones stalls every commit, now and then for tens of milliseconds.
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


def live_user(number: int, count: int) -> str:
    """Return the name of one of the users whose sessions are live."""
    tens = count // SESSIONS_A_USER // 10
    live = 10 - OVERDUE_OF_TEN - ENDED_OF_TEN
    user = number // live % tens * 10 + OVERDUE_OF_TEN + number % live
    return f"bulk-{user:08d}"
