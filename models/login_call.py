"""The journal of calls that use up a proof: a code, a password, a refresh token."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, new_id

_ANSWERED = text("handle_id IS NOT NULL AND outcome = 'answered'")
_PROVEN = text("proof_hash IS NOT NULL")
_UNKNOWN = text("outcome = 'unknown'")
_SEALED = text("sealed_answer IS NOT NULL")
_OPEN = text("closed_at IS NULL")


class CallKind(StrEnum):
    """What the call does for the user."""

    START = "start"  # sends a code, begins a transaction
    LOGIN = "login"
    FACTOR = "factor"
    REFRESH = "refresh"


class CallOutcome(StrEnum):
    """What became of the call."""

    ANSWERED = "answered"
    REFUSED = "refused"
    UNKNOWN = "unknown"  # it may have happened; the worker did not hear the answer


class LoginCall(Base):
    """One call to Mosaic that must never be sent twice. Committed before the call begins.

    An open row whose time is over says that the call may have happened. No foreign key to the
    session: like the trail, the journal may outlive it.
    """

    __tablename__ = "login_calls"
    __table_args__ = (
        UniqueConstraint("app_id", "request_id"),  # a redelivered request finds its call
        # One refresh token is sent to Mosaic once, however many requests bring it.
        Index(
            "ix_login_calls_proof",
            "app_id",
            "proof_hash",
            unique=True,
            postgresql_where=_PROVEN,
            sqlite_where=_PROVEN,
        ),
        # A login handle is used up by its first success.
        Index(
            "ix_login_calls_handle",
            "handle_id",
            unique=True,
            postgresql_where=_ANSWERED,
            sqlite_where=_ANSWERED,
        ),
        # The next login of the same identifier looks for those whose answer no worker has heard.
        Index(
            "ix_login_calls_unknown",
            "app_id",
            "identifier_hash",
            postgresql_where=_UNKNOWN,
            sqlite_where=_UNKNOWN,
        ),
        Index(
            "ix_login_calls_answer_until",  # scrubbing scans by it
            "answer_until",
            postgresql_where=_SEALED,
            sqlite_where=_SEALED,
        ),
        Index(
            "ix_login_calls_open",  # scrubbing closes those that no worker has heard the answer of
            "call_until",
            postgresql_where=_OPEN,
            sqlite_where=_OPEN,
        ),
        CheckConstraint("(closed_at IS NULL) = (outcome IS NULL)", name="closed_with_outcome"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    app_id: Mapped[str]
    request_id: Mapped[str]
    # Keyed hash of the sealed content: the same request id with other content is refused.
    digest: Mapped[bytes]
    kind: Mapped[str]
    method: Mapped[str]
    # Keyed hashes: what a user typed, or proved with, is in no table.
    identifier_hash: Mapped[bytes | None]
    proof_hash: Mapped[bytes | None]
    idp_session_id: Mapped[UUID | None]
    handle_id: Mapped[UUID | None]

    sent_at: Mapped[datetime] = mapped_column(index=True)
    # No call lasts longer: an open row is a call in flight until then, and unknown afterwards.
    call_until: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    # Sealed for this row ("login_calls:<id>:answer"). The same request gets the same answer until
    # `answer_until`, also when Redis has forgotten it; then it is scrubbed.
    sealed_answer: Mapped[bytes | None]
    answer_until: Mapped[datetime]
