"""Reads the environment, once, typed. Nothing else in the project looks at it.

Names are ``MOSAIC_SESSIONS_<FIELD>``, plus ``DATABASE_URL``, ``CELERY_BROKER_URL`` and
``REDIS_URL``, which have their usual names. Each may come from a file instead: ``<NAME>_FILE``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
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
    check_broker_url,
    check_ca_certificates,
    check_database_url,
    check_http_url,
    check_redis_url,
    decode_key,
    is_redis,
    parse_key_ring,
    parse_signing_keys,
)

_METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
_CENTURY_DAYS: Final = 36_500  # longer ones cannot be reckoned with

Region = Literal["us", "eu", "ca", "au", "jp", "sandbox"]


def _secret(check: Callable[[str], object]) -> AfterValidator:
    def check_secret(value: SecretStr) -> SecretStr:
        check(value.get_secret_value())
        return value

    return AfterValidator(check_secret)


def _secret_url(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda value: SecretStr(check(value.get_secret_value())))


BaseUrl = Annotated[str, AfterValidator(check_http_url)]


class Settings(BaseModel):
    """All settings. Secrets are `SecretStr`: they have no readable repr."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    # Where things are
    database_url: Annotated[SecretStr, _secret(check_database_url)] = SecretStr(
        "sqlite:///mosaic-sessions.db"
    )
    broker_url: Annotated[SecretStr, _secret_url(check_broker_url)] = SecretStr(
        "redis://127.0.0.1:6379/0"
    )
    # Answers and caches; the broker's when that is Redis.
    redis_url: Annotated[SecretStr, _secret_url(check_redis_url)] | None = None

    # Keys
    # "kid:base64,kid:base64": the first seals, all open.
    encryption_keys: Annotated[SecretStr, _secret(parse_key_ring)]
    # base64; finds a session by its id without storing the id.
    lookup_key: Annotated[SecretStr, _secret(decode_key)]

    # Mosaic
    mosaic_region: Region = "us"
    mosaic_base_url: BaseUrl | None = None
    mosaic_token_url: BaseUrl | None = None
    mosaic_jwks_url: BaseUrl | None = None
    mosaic_issuer: str | None = None
    mosaic_timeout_seconds: float = Field(default=10.0, gt=0, le=30)
    clock_skew_seconds: int = Field(default=60, ge=0, le=300)
    jwks_max_age_seconds: float = Field(default=3600.0, gt=0)
    jwks_refetch_seconds: float = Field(default=60.0, gt=0)  # at most one for unknown kids

    # Traffic with Mosaic, for all processes together; the budgets are its documented limits
    mosaic_app_calls_per_minute: int = Field(default=20_000, ge=1)  # of each client id
    mosaic_source_calls_per_minute: int = Field(default=90_000, ge=1)  # of this address
    mosaic_logout_share: float = Field(default=0.1, gt=0, lt=1)  # of both, kept for logouts
    mosaic_user_calls_per_minute: int = Field(default=120, ge=1)  # silent authentications of one
    reuse_seconds: float = Field(default=30.0, ge=0, le=300)  # an answer serves identical requests
    breaker_failures: int = Field(default=5, ge=1)  # in a row open it
    breaker_open_seconds: float = Field(default=5.0, gt=0)  # doubled each time in a row
    breaker_open_most_seconds: float = Field(default=60.0, gt=0)

    # Sessions
    session_lifetime_seconds: int = Field(default=14 * 24 * 3600, gt=0, le=_CENTURY_DAYS * 86400)
    max_candidates: int = Field(default=3, ge=1, le=10)
    # Caps of our own on Mosaic's uncapped sliding sessions; unset means none.
    session_idle_cap_seconds: int | None = Field(default=None, gt=0)
    session_absolute_cap_seconds: int | None = Field(default=None, gt=0)

    # Duties to tell Mosaic and apps
    delivery_lease_seconds: float = Field(default=60.0, gt=0)
    delivery_retry_seconds: float = Field(default=2.0, gt=0)  # doubled at each attempt, with jitter
    delivery_retry_most_seconds: float = Field(default=300.0, gt=0)
    delivery_wake_again_seconds: float = Field(
        default=10.0, gt=0
    )  # then its message counts as lost

    # Notices to apps: OpenID Connect Back-Channel Logout 1.0
    notice_issuer: str | None = None  # our name in logout tokens; needed to sign any
    # RSA keys in PEM, one after another: the first signs, all are shown.
    notice_signing_keys: Annotated[SecretStr, _secret(parse_signing_keys)] | None = None
    notice_private_addresses: bool = False  # also http and private networks: laptops and tests only
    notice_timeout_seconds: float = Field(default=5.0, gt=0, le=15)
    notice_horizon_seconds: float = Field(default=3 * 24 * 3600, gt=0)  # then it has failed

    # Maintenance. The grace keeps expiry away from a renewal that is still under way at Mosaic,
    # so it must be longer than any request may take.
    expire_grace_seconds: float = Field(default=120.0, ge=0)
    # Two days at least, whatever is set: see `maintenance.REMEMBERED_AT_LEAST`.
    keep_ended_days: float = Field(default=30.0, ge=0, le=_CENTURY_DAYS)
    keep_events_days: float = Field(default=365.0, ge=0, le=_CENTURY_DAYS)
    # More than this share of the live sessions, and more than this many, end only if overridden.
    guard_share: float = Field(default=0.25, gt=0, le=1)
    guard_count: int = Field(default=1000, ge=0)
    # Apart from the database's clock; less than the grace, of which it may take as much away.
    guard_clock_seconds: float = Field(default=60.0, gt=0)
    maintenance_batch: int = Field(default=500, ge=1, le=10_000)
    maintenance_rows_per_second: int = Field(default=25_000, ge=1)
    maintenance_budget_seconds: float = Field(default=30.0, gt=0)
    sweep_every_seconds: float = Field(default=5.0, gt=0)
    expire_every_seconds: float = Field(default=60.0, gt=0)
    purge_every_seconds: float = Field(default=3600.0, gt=0)

    # Trusted beside the public authorities, for Mosaic and for notices
    ca_certificates: Annotated[str, AfterValidator(check_ca_certificates)] | None = None

    # Processes
    visibility_timeout_seconds: float = Field(default=VISIBILITY_TIMEOUT_SECONDS, gt=0)
    concurrency: int = Field(default=8, ge=1, le=64)
    # Prometheus metrics over HTTP, when a port is set.
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    metrics_host: str = "127.0.0.1"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

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
    def session_lifetime(self) -> timedelta:
        """How long a session lives after its last authentication, unless Mosaic says otherwise."""
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


def metrics_folder() -> str | None:
    """Return the folder the operator lends to `prometheus_client`, if there is one."""
    return os.environ.get(_METRICS_FOLDER) or None  # noqa: TID251


def share_metrics_folder(folder: Path) -> None:
    """Name the folder in which the children of a pool count: the library looks nowhere else."""
    os.environ[_METRICS_FOLDER] = str(folder)  # noqa: TID251


def read(environment: Mapping[str, str]) -> Settings:
    """Build settings from *environment*. Raises `ConfigurationError`."""
    values = collect(environment, Settings.model_fields)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None
