"""The obvious worker for the same job, as a good engineer in a hurry writes it.

Celery with a Redis result backend, SQLAlchemy's ORM, `peers.mosaic` for the rest. It has none of
the promises in README.md; it finds the session, asks Mosaic, verifies, extends, links, answers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from celery import Celery
from sqlalchemy import DateTime, Engine, ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.peers.mosaic import Mosaic
from benchmarks.peers.variables import DATABASE_URL, MOSAIC_URL, variable


class Base(DeclarativeBase):
    """All tables of the peer."""

    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 - SQLAlchemy's way


class UserSession(Base):
    """A session at Mosaic."""

    __tablename__ = "user_sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    session_id: Mapped[str] = mapped_column(unique=True)
    authenticated_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class AppLink(Base):
    """An app that uses a session."""

    __tablename__ = "app_links"

    user_session_id: Mapped[int] = mapped_column(ForeignKey("user_sessions.id"), primary_key=True)
    app_id: Mapped[str] = mapped_column(primary_key=True)
    last_used_at: Mapped[datetime]


app = Celery("peer")  # broker and result backend from CELERY_BROKER_URL, CELERY_RESULT_BACKEND


@cache
def engine() -> Engine:
    """Return this process's engine, made on first use and so after the fork."""
    return create_engine(variable(DATABASE_URL), pool_size=20)


@cache
def mosaic() -> Mosaic:
    """Return this process's door to Mosaic."""
    return Mosaic(variable(MOSAIC_URL))


@app.task(name="silent_auth")
def silent_auth(app_id: str, user_id: str) -> dict[str, Any]:
    """Return tokens for the app, or that a login is required."""
    now = datetime.now(UTC)
    live = (UserSession.ended_at.is_(None)) & (UserSession.expires_at > now)
    newest = select(UserSession).where(UserSession.user_id == user_id, live)
    newest = newest.order_by(UserSession.authenticated_at.desc()).limit(1)
    with Session(engine()) as db:
        session = db.scalars(newest).first()
        if session is None:
            return {"verdict": "login_required"}
        tokens = mosaic().authenticate(app_id, user_id, session.session_id)
        if tokens is None:
            session.ended_at = now
            db.commit()
            return {"verdict": "login_required"}
        session.expires_at = now + timedelta(days=14)
        db.merge(AppLink(user_session_id=session.id, app_id=app_id, last_used_at=now))
        db.commit()
    return {"verdict": "authenticated", "tokens": tokens}
