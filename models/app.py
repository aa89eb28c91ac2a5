"""The backend apps an operator registered, and their keys."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, new_id


class TokenEndpointAuthMethod(StrEnum):
    """How an app's client proves itself to Mosaic, by the names of OpenID Connect."""

    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105 - a method's name
    PRIVATE_KEY_JWT = "private_key_jwt"


class App(Base):
    """One backend app: its client at Mosaic, its policy, and where it differs from the settings."""

    __tablename__ = "apps"
    __table_args__ = (
        CheckConstraint(
            "(notice_method IS NULL) = (notice_address IS NULL)", name="notice_has_address"
        ),
    )

    app_id: Mapped[str] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(unique=True)
    # What `sealed_client_secret` serves for (`TokenEndpointAuthMethod`).
    token_endpoint_auth_method: Mapped[str] = mapped_column(
        default=TokenEndpointAuthMethod.CLIENT_SECRET_POST.value,
        server_default=text("'client_secret_post'"),
    )
    # The client's secret, or its private key. Sealed for this row ("apps:<app_id>:client_secret");
    # opened only to fetch a client token.
    sealed_client_secret: Mapped[bytes]

    # Policy. Mosaic returns tokens however weak the login was, so strength is checked here.
    amr_all_of: Mapped[list[str]]
    amr_any_of: Mapped[list[str]]
    max_age_seconds: Mapped[int | None]
    # What it may do beyond its own sessions, and beyond the browsers that come to it.
    capabilities: Mapped[list[str]]
    # The login methods it may use, by their names in the contract.
    methods: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    # Where the browsers that are sent to it deliver their tickets, and the apps that may send them.
    # None and none: it takes no tickets.
    transfer_url: Mapped[str | None]
    tickets_from: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))

    # Overrides; None means: as the settings say.
    base_url: Mapped[str | None]
    token_url: Mapped[str | None]
    jwks_url: Mapped[str | None]
    issuer: Mapped[str | None]
    session_lifetime_seconds: Mapped[int | None]

    # How it is told that a session it shares has ended (`NoticeMethod`), and where: a URL or the
    # name of a queue. None means: it is not told.
    notice_method: Mapped[str | None]
    notice_address: Mapped[str | None]
    # Mosaic tells no app of an expiry either, and most apps need not know.
    notify_on_expiry: Mapped[bool] = mapped_column(default=False, server_default=text("false"))

    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class AppKey(Base):
    """A key shared with one app. Several may be live, so that it can be rotated without a gap."""

    __tablename__ = "app_keys"
    __table_args__ = (UniqueConstraint("app_id", "kid"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    app_id: Mapped[str] = mapped_column(ForeignKey("apps.app_id", ondelete="CASCADE"))
    kid: Mapped[str]
    # Sealed for this row ("app_keys:<id>:secret").
    sealed_secret: Mapped[bytes]
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]
