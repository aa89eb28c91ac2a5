"""Reads the environment, once, typed. Nothing else in the project looks at it.

Names are ``MOSAIC_SESSIONS_<FIELD>``, plus ``DATABASE_URL``, ``CELERY_BROKER_URL`` and
``REDIS_URL``, which have their usual names. Each may come from a file instead: ``<NAME>_FILE``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from session_client.broker import VISIBILITY_TIMEOUT_SECONDS
from worker.errors import ConfigurationError
from worker.settings.display import explain
from worker.settings.environment import collect, value_of, variable_name
from worker.settings.validators import (
    BaseUrl,
    check_api_url,
    check_broker_url,
    check_ca_certificates,
    check_database_url,
    check_proxy_url,
    check_redis_url,
    decode_key,
    is_redis,
    parse_key_ring,
    parse_signing_keys,
    secret,
    secret_url,
)

_CENTURY_DAYS: Final = 36_500  # longer ones cannot be reckoned with

Region = Literal["us", "eu", "ca", "au", "jp", "sandbox"]


class Settings(BaseModel):
    """All settings, and what `docs/settings.md` says of each (`settings.page` writes it).

    Secrets are `SecretStr`: they have no readable repr.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    # Where things are

    database_url: Annotated[SecretStr, secret(check_database_url)] = SecretStr(
        "sqlite:///mosaic-sessions.db"
    )
    """The store; `postgresql+psycopg://…` in production."""
    broker_url: Annotated[SecretStr, secret_url(check_broker_url)] = SecretStr(
        "redis://127.0.0.1:6379/0"
    )
    """The broker, which carries the jobs."""
    redis_url: Annotated[SecretStr, secret_url(check_redis_url)] | None = None
    """The Redis of answers, caches and budgets. Unset, it is the broker's; needed when the broker
    is no Redis."""
    rabbitmq_api_url: Annotated[SecretStr, secret(check_api_url)] | None = None
    """`http://user:password@host:15672` of the management API of a RabbitMQ that is the broker, for
    `doctor` alone: it looks there for policies that would lose jobs."""

    # Keys

    encryption_keys: Annotated[SecretStr, secret(parse_key_ring)]
    """`kid:base64,kid:base64`: the first key seals what is stored, all of them open it."""
    lookup_key: Annotated[SecretStr, secret(decode_key)]
    """32 bytes in base64, with which a session is found by its id although the id is not stored.
    It never changes."""

    # Mosaic

    mosaic_region: Region = "us"
    """The region of the tenant: it gives the four addresses below their defaults."""
    mosaic_base_url: BaseUrl | None = None
    """The API's host, where it is not the region's; `apps set` can override it for an app."""
    mosaic_token_url: BaseUrl | None = None
    """The token endpoint, likewise."""
    mosaic_jwks_url: BaseUrl | None = None
    """Mosaic's signing keys, likewise."""
    mosaic_issuer: str | None = None
    """The `iss` of ID tokens, likewise. Regions `jp` and `sandbox` have no known default."""
    mosaic_proxy: Annotated[SecretStr, secret(check_proxy_url)] | None = None
    """`http://user:password@host:port` of a proxy by way of which Mosaic is called (CONNECT for
    https). Notices to apps never take it, and no `*_PROXY` variable is read."""
    mosaic_timeout_seconds: float = Field(default=10.0, gt=0, le=30)
    """The longest call to Mosaic, all of it."""
    clock_skew_seconds: int = Field(default=60, ge=0, le=300)
    """How far the times in tokens may be off."""
    jwks_max_age_seconds: float = Field(default=3600.0, gt=0)
    """How long Mosaic's signing keys are used before they are fetched again."""
    jwks_refetch_seconds: float = Field(default=60.0, gt=0)
    """How often, at most, they are fetched for a token that names an unknown key."""

    # Traffic with Mosaic: for all processes together

    mosaic_app_calls_per_minute: int = Field(default=20_000, ge=1)
    """The budget of each client id. The default is Mosaic's documented limit."""
    mosaic_source_calls_per_minute: int = Field(default=90_000, ge=1)
    """The budget of this installation's address. The default is Mosaic's documented limit."""
    mosaic_logout_share: float = Field(default=0.1, gt=0, lt=1)
    """The share of both budgets that is kept for logouts."""
    mosaic_user_calls_per_minute: int = Field(default=120, ge=1)
    """How many silent authentications of one user may reach Mosaic; half of them for one app."""
    reuse_seconds: float = Field(default=30.0, ge=0, le=300)
    """How long an answer serves identical requests. With 0 it serves those that came while the
    call was in progress."""
    breaker_failures: int = Field(default=5, ge=1)
    """After so many sessions in a row failed for an app its calls are kept from Mosaic for a while;
    those of all apps when they failed for several."""
    breaker_open_seconds: float = Field(default=5.0, gt=0)
    """For how long at first; twice as long each time in a row. Logouts: not doubled, and one that
    was never tried is let through."""
    breaker_open_max_seconds: float = Field(default=60.0, gt=0)
    """For how long at most."""

    # Sessions

    session_lifetime_seconds: int = Field(default=14 * 24 * 3600, gt=0, le=_CENTURY_DAYS * 86400)
    """How long a session lives after its last authentication; `apps set` can override it, and
    `doctor` compares it with Mosaic's."""
    max_candidates: int = Field(default=3, ge=1, le=10)
    """How many of a user's sessions one request may try."""
    session_idle_cap_seconds: int | None = Field(default=None, gt=0)
    """How long a session may lie unused. Past this cap it gives no tokens, and the next run of
    maintenance logs it out, at Mosaic too. Unset means no cap."""
    session_absolute_cap_seconds: int | None = Field(default=None, gt=0)
    """How long a session may live at all, likewise."""

    # Deliveries: telling Mosaic and apps

    delivery_lease_seconds: float = Field(default=60.0, gt=0)
    """After this the delivery of a worker that was killed goes on elsewhere. It must exceed twice
    the timeout of Mosaic, and that of notices."""
    delivery_retry_seconds: float = Field(default=2.0, gt=0)
    """The pause before telling Mosaic or an app again; it doubles each time, with jitter."""
    delivery_retry_max_seconds: float = Field(default=300.0, gt=0)
    """The longest such pause."""
    delivery_wake_again_seconds: float = Field(default=10.0, gt=0)
    """A wake-up that no worker has taken for so long counts as lost."""

    # Notices to apps: OpenID Connect Back-Channel Logout 1.0

    notice_issuer: str | None = None
    """Our name in logout tokens; needed to sign any."""
    notice_signing_keys: Annotated[SecretStr, secret(parse_signing_keys)] | None = None
    """RSA private keys in PEM, one after another: the first signs, all are published."""
    notice_private_addresses: bool = False
    """Notices may also go by plain http, and to private networks. For laptops and closed networks
    only."""
    notice_timeout_seconds: float = Field(default=5.0, gt=0, le=15)
    """The longest delivery to an app."""
    notice_horizon_seconds: float = Field(default=3 * 24 * 3600, gt=0)
    """A notice that could not be delivered for so long has failed; `notices replay` tries again."""
    notice_queue_max_messages: int = Field(default=10_000, ge=1)
    """So many messages may wait in the own queue of an app that takes notices from one; the next
    are put off."""

    # Maintenance

    expire_grace_seconds: float = Field(default=120.0, ge=0)
    """How long after its expiry, or a cap, a session is ended. It keeps expiry away from a renewal
    in progress, so it must be longer than any request and the clock guard together."""
    keep_ended_days: float = Field(default=30.0, ge=0, le=_CENTURY_DAYS)
    """How long ended sessions and their receipts are kept; two days at least, whatever is set,
    since a message may come again."""
    keep_events_days: float = Field(default=365.0, ge=0, le=_CENTURY_DAYS)
    """How long the audit trail is kept."""
    guard_share: float = Field(default=0.25, gt=0, le=1)
    """More than this share of the live sessions, if they are also more than the next setting says,
    are ended only when an operator overrides the guard."""
    guard_count: int = Field(default=1000, ge=0)
    """This many may always be ended."""
    guard_clock_seconds: float = Field(default=60.0, gt=0)
    """Farther apart from the database's clock, nothing is expired. It must be less than the grace,
    of which a clock that is ahead takes as much away."""
    maintenance_batch: int = Field(default=500, ge=1, le=10_000)
    """Rows that expiry, purging, `keys rotate` and `sessions revoke --app` take in one
    transaction."""
    maintenance_rows_per_second: int = Field(default=25_000, ge=1)
    """Rows a second, at most. By itself it goes slower while its batches take longer than they
    would alone, as they do while users sign in."""
    maintenance_budget_seconds: float = Field(default=30.0, gt=0, le=45)
    """The time of one run, all kinds of rows together; the next goes on. It must end before Celery
    ends a process that works for longer (50 s) or delivers the task once more."""
    sweep_every_seconds: float = Field(default=5.0, gt=0)
    """How often beat has lost wake-ups sent again."""
    expire_every_seconds: float = Field(default=60.0, gt=0)
    """How often beat has sessions expired."""
    purge_every_seconds: float = Field(default=3600.0, gt=0, le=86_400)
    """How often the history is purged. A run that does not come to its end goes on within a
    minute. With more than an hour, raise the threshold of the alert `MosaicSessionsPurgeLate`."""

    # Certificates

    ca_certificates: Annotated[str, AfterValidator(check_ca_certificates)] | None = None
    """Authorities in PEM, trusted beside the public ones, at Mosaic and at apps:
    `…_CA_CERTIFICATES_FILE=/etc/ssl/company.pem`."""

    # Processes

    visibility_timeout_seconds: float = Field(default=VISIBILITY_TIMEOUT_SECONDS, gt=0)
    """How long a job may take before another worker gets it. The same for all workers of a broker,
    and more than twice the longest job."""
    concurrency: int = Field(default=8, ge=1, le=64)
    """Threads (or processes) of a worker."""
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Where each worker serves Prometheus metrics under `/metrics`, and under `/livez` whether it
    is stuck. Unset, it does not."""
    metrics_host: str = "127.0.0.1"
    """The address it serves them on; beat too."""
    beat_port: int | None = Field(default=None, ge=1, le=65_535)
    """Where beat serves `/livez`. Unset, it does not."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less important is not logged."""
    log_format: Literal["json", "console"] = "json"
    """A line of JSON for each event, or text for a person."""

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.redis_url is None and not is_redis(self.broker_url.get_secret_value()):
            raise ValueError("REDIS_URL is missing: answers need one when the broker is no Redis")
        if self.delivery_lease_seconds <= 2 * self.mosaic_timeout_seconds:
            # Two credentials may be tried under one lease; it must outlive both calls.
            raise ValueError(
                f"{variable_name('delivery_lease_seconds')} must exceed twice "
                f"{variable_name('mosaic_timeout_seconds')}"
            )
        if self.delivery_lease_seconds <= self.notice_timeout_seconds:
            raise ValueError(
                f"{variable_name('delivery_lease_seconds')} must exceed "
                f"{variable_name('notice_timeout_seconds')}"
            )
        if self.guard_clock_seconds >= self.expire_grace_seconds:
            # By a clock that is ahead but passes the guard, a renewal under way would be beaten.
            raise ValueError(
                f"{variable_name('guard_clock_seconds')} must be less than "
                f"{variable_name('expire_grace_seconds')}: lower the first or raise the second"
            )
        if self.notice_signing_keys is not None and self.notice_issuer is None:
            raise ValueError(
                f"{variable_name('notice_issuer')} is missing: the signing keys need a name to "
                "sign with"
            )
        return self

    @property
    def store_url(self) -> str:
        """The database URL; a secret, since it may hold a password."""
        return self.database_url.get_secret_value()

    @property
    def cache_url(self) -> str:
        """The URL of the Redis that carries answers and caches; a secret likewise."""
        return (self.redis_url or self.broker_url).get_secret_value()

    @property
    def lookup_key_bytes(self) -> bytes:
        """The key of the session-id hash, 32 bytes."""
        return decode_key(self.lookup_key.get_secret_value())

    @property
    def purge_asked_every_seconds(self) -> float:
        """How often beat asks for a purge, which is done only when it is due or was not ended."""
        return min(60.0, self.purge_every_seconds)

    @property
    def session_lifetime(self) -> timedelta:
        """How long a session lives after its last authentication, unless its app has another."""
        return timedelta(seconds=self.session_lifetime_seconds)


@lru_cache(maxsize=1)
def current() -> Settings:
    """Return this process's settings. Raises `ConfigurationError`, which never quotes a value."""
    return read(os.environ)  # noqa: TID251 - the one place


def database_url() -> str:
    """Return the database's URL alone: migrations need no keys. Raises `ConfigurationError`."""
    environment = os.environ  # noqa: TID251
    default: SecretStr = Settings.model_fields["database_url"].default
    url = value_of(environment, "DATABASE_URL") or default.get_secret_value()
    try:
        check_database_url(url)
    except ValueError as error:
        raise ConfigurationError(f"DATABASE_URL: {error}") from None
    return url


def read(environment: Mapping[str, str]) -> Settings:
    """Build settings from *environment*. Raises `ConfigurationError`."""
    values = collect(environment, Settings.model_fields)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None
