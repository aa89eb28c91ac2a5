"""Settings are typed, named when wrong, and silent about what they hold."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

from simulator.idp.keys import rsa_key
from worker.errors import ConfigurationError
from worker.settings import model as settings_module
from worker.settings.display import describe
from worker.settings.environment import variable_name
from worker.settings.model import Settings, read

CANARY = "canary-7f3a91"
KEY = base64.b64encode(b"e" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()
END = "-----END CERTIFICATE-----"
CERTIFICATE = "-----BEGIN" + certifi.contents().partition("-----BEGIN")[2].partition(END)[0] + END
PEM = rsa_key(-2).as_pem(private=True).decode().strip()
KEYS = {"MOSAIC_SESSIONS_ENCRYPTION_KEYS": f"k1:{KEY}", "MOSAIC_SESSIONS_LOOKUP_KEY": OTHER_KEY}
# Signing keys are refused without an issuer.
ENOUGH = KEYS | {"MOSAIC_SESSIONS_NOTICE_ISSUER": "https://issuer.example.com"}

# Every field with a value that is not its default, as text and as it arrives.
VALUES: dict[str, tuple[str, object]] = {
    "database_url": ("postgresql+psycopg://u:p@db/sessions", None),
    "broker_url": ("rediss://broker:6380/2", None),
    "redis_url": ("redis://cache:6379/1", None),
    "rabbitmq_api_url": ("http://u:p@broker:15672", None),
    "encryption_keys": (f"k2:{OTHER_KEY},k1:{KEY}", None),
    "lookup_key": (KEY, None),
    "mosaic_region": ("eu", "eu"),
    "mosaic_base_url": ("https://login.example.com/", "https://login.example.com"),
    "mosaic_token_url": ("https://login.example.com/token", "https://login.example.com/token"),
    "mosaic_jwks_url": ("https://login.example.com/jwks", "https://login.example.com/jwks"),
    "mosaic_issuer": ("https://issuer.example.com/", "https://issuer.example.com/"),
    "mosaic_proxy": ("http://u:p@proxy:3128", None),
    "mosaic_timeout_seconds": ("7.5", 7.5),
    "clock_skew_seconds": ("30", 30),
    "jwks_max_age_seconds": ("60", 60.0),
    "jwks_refetch_seconds": ("5", 5.0),
    "mosaic_app_calls_per_minute": ("600", 600),
    "mosaic_source_calls_per_minute": ("6000", 6000),
    "mosaic_logout_share": ("0.25", 0.25),
    "mosaic_user_calls_per_minute": ("30", 30),
    "reuse_seconds": ("10", 10.0),
    "breaker_failures": ("3", 3),
    "breaker_open_seconds": ("1", 1.0),
    "breaker_open_max_seconds": ("30", 30.0),
    "session_lifetime_seconds": ("600", 600),
    "max_candidates": ("5", 5),
    "session_idle_cap_seconds": ("3600", 3600),
    "session_absolute_cap_seconds": ("86400", 86400),
    "delivery_lease_seconds": ("90", 90.0),
    "delivery_retry_seconds": ("1.5", 1.5),
    "delivery_retry_max_seconds": ("100", 100.0),
    "delivery_wake_again_seconds": ("20", 20.0),
    "notice_issuer": ("https://sessions.example.com", "https://sessions.example.com"),
    "notice_signing_keys": (PEM, None),
    "notice_private_addresses": ("true", True),
    "notice_timeout_seconds": ("3", 3.0),
    "notice_horizon_seconds": ("7200", 7200.0),
    "notice_queue_max_messages": ("50", 50),
    "ca_certificates": (CERTIFICATE, None),
    "guard_share": ("0.5", 0.5),
    "guard_count": ("10", 10),
    "guard_clock_seconds": ("60", 60.0),
    "expire_grace_seconds": ("240", 240.0),
    "keep_ended_days": ("7", 7.0),
    "keep_events_days": ("30", 30.0),
    "maintenance_batch": ("10", 10),
    "maintenance_rows_per_second": ("1000", 1000),
    "maintenance_budget_seconds": ("3", 3.0),
    "sweep_every_seconds": ("2", 2.0),
    "expire_every_seconds": ("30", 30.0),
    "purge_every_seconds": ("60", 60.0),
    "visibility_timeout_seconds": ("120", 120.0),
    "concurrency": ("16", 16),
    "metrics_port": ("9181", 9181),
    "beat_port": ("9182", 9182),
    "metrics_host": ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - a text here
    "log_level": ("debug", "debug"),
    "log_format": ("console", "console"),
}
SECRETS = (
    *("database_url", "broker_url", "redis_url", "rabbitmq_api_url"),
    *("encryption_keys", "lookup_key", "notice_signing_keys", "mosaic_proxy"),
)


def settings(**values: str) -> Settings:
    return read({**ENOUGH, **{variable_name(name): value for name, value in values.items()}})


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(environment)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


# --- what is read


def test_every_setting_is_in_the_table_of_this_test() -> None:
    assert VALUES.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("field", VALUES)
def test_every_setting_is_read_from_its_variable(field: str) -> None:
    text, expected = VALUES[field]

    value = getattr(settings(**{field: text}), field)

    assert (value.get_secret_value() if field in SECRETS else value) == (expected or text)


@pytest.mark.parametrize("field", VALUES)
def test_every_setting_may_come_from_a_file(field: str, tmp_path: Path) -> None:
    text, _ = VALUES[field]
    file = tmp_path / "value"
    file.write_text(f"{text}\n", encoding="utf-8")
    name = variable_name(field)
    without = {key: value for key, value in ENOUGH.items() if key != name}

    from_file = read({**without, f"{name}_FILE": str(file)})

    assert from_file == settings(**{field: text})


def test_urls_have_their_usual_names_and_the_rest_our_prefix() -> None:
    names = {variable_name(field) for field in VALUES}

    assert {name for name in names if not name.startswith("MOSAIC_SESSIONS_")} == {
        "DATABASE_URL",
        "CELERY_BROKER_URL",
        "REDIS_URL",
    }


def test_keys_alone_are_enough() -> None:
    assert read(KEYS).mosaic_region == "us"


def test_an_empty_variable_is_not_set() -> None:
    assert settings(concurrency="").concurrency == 8


def test_strangers_variables_are_none_of_our_business() -> None:
    assert read({**KEYS, "MOSAIC_OTHER": "x", "PATH": "/bin"}) == read(KEYS)


def test_answers_travel_by_the_broker_unless_redis_url_says_otherwise() -> None:
    assert settings(broker_url="redis://a/0").cache_url == "redis://a/0"
    assert settings(broker_url="redis://a/0", redis_url="redis://b/0").cache_url == "redis://b/0"


@pytest.fixture
def nothing_read_yet() -> Iterator[None]:
    settings_module.current.cache_clear()
    yield
    settings_module.current.cache_clear()


@pytest.mark.usefixtures("nothing_read_yet")
def test_the_process_reads_its_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)

    assert settings_module.current() is settings_module.current()


# --- what is refused


@pytest.mark.parametrize(
    "name", ["MOSAIC_SESSIONS_CONCURENCY", "MOSAIC_SESSIONS_LOOKUP_KEY_FIEL", "MOSAIC_SESSIONS_"]
)
def test_a_misspelt_name_is_named(name: str) -> None:
    message = refusal({**KEYS, name: CANARY})

    assert f"unknown setting {name}" in message
    assert CANARY not in message


@pytest.mark.parametrize("missing", KEYS)
def test_a_missing_key_is_named_with_the_command_that_makes_one(missing: str) -> None:
    message = refusal({name: value for name, value in KEYS.items() if name != missing})

    assert f"{missing} is missing" in message
    assert "mosaic-sessions keys generate" in message


def test_all_missing_keys_are_named_at_once() -> None:
    message = refusal({})

    assert all(name in message for name in KEYS)


def test_celerys_result_backend_is_refused() -> None:
    message = refusal({**KEYS, "CELERY_RESULT_BACKEND": f"redis://:{CANARY}@host/0"})

    assert "CELERY_RESULT_BACKEND is set: unset it" in message
    assert CANARY not in message


@pytest.mark.parametrize("name", ["CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"])
def test_what_celery_would_read_past_us_is_refused(name: str) -> None:
    message = refusal({**KEYS, name: f"redis://:{CANARY}@host/0"})

    assert message.startswith(f"{name} is set: unset it")
    assert CANARY not in message


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "REDIS_URL"])
@pytest.mark.parametrize(
    ("spelt", "known"),
    [
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis+socket:///run/redis.sock?virtual_host=1", "unix:///run/redis.sock?db=1"),
        (
            "redis+socket://u:virtual_host=@/run/redis.sock",
            "unix://u:virtual_host=@/run/redis.sock",
        ),
        ("valkey://host:6379/2", "redis://host:6379/2"),
        ("valkeys://host:6379/2", "rediss://host:6379/2"),
        ("redis://host//", "redis://host//"),
    ],
)
def test_a_redis_may_have_the_name_that_others_give_it(name: str, spelt: str, known: str) -> None:
    kept = read({**KEYS, name: spelt})

    assert kept.cache_url == known
    assert name != "CELERY_BROKER_URL" or kept.broker_url.get_secret_value() == known


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "REDIS_URL"])
@pytest.mark.parametrize(
    ("scheme", "why"),
    [
        ("sentinel", "with Redis Sentinel it is redis://"),
        ("redis+sentinel", "with Redis Sentinel it is redis://"),
        ("rediss+cluster", "Redis Cluster is not supported"),
        ("redis-cluster", "Redis Cluster is not supported"),
        ("redis+tls", "needs redis://"),
    ],
)
def test_a_redis_that_is_reached_in_another_way_is_refused_by_name(
    name: str, scheme: str, why: str
) -> None:
    message = refusal({**KEYS, name: f"{scheme}://u:{CANARY}@host/0"})

    assert message.startswith(f"{name}: {why}")
    assert CANARY not in message


MALFORMED = {
    "database_url": [
        f"{CANARY}",
        f"mysql://root:{CANARY}@host/db",
        f"postgres://root:{CANARY}@host/db",
        f"postgresql+{CANARY}://host/db",
        f"postgresql+psycopg://u:p@host:{CANARY}/db",
        f"postgresql+psycopg://u:{CANARY}@host/db?prepare_threshold=0",
    ],
    "broker_url": [
        f"redis://:pw@host:{CANARY}/0",
        f"redis://host/0?socket_timeout={CANARY}",
        f"redis://host/{CANARY}",
        f"redis://host/0;redis://{CANARY}/0",
        f"redis://:{CANARY}@mymaster/0?sentinels=",
        f"redis://:{CANARY}@mymaster/0?sentinels=host",
        f"redis://mymaster/0?sentinels=host:26379,{CANARY}",
        f"redis://mymaster/0?sentinel_password={CANARY}",
        f"unix:///{CANARY}?sentinels=host:26379",
        f"amqps://u:{CANARY}@host/v?ssl_ca={CANARY}",
        f"amqps://u:p@host/v?ssl_cert_reqs={CANARY}",
        f"amqps://u:{CANARY}@one/v;amqps://u:{CANARY}@two/v",
        f"amqps://u:{CANARY}@[one/v",
    ],
    "rabbitmq_api_url": [
        CANARY,
        f"amqp://u:{CANARY}@host:15672",
        f"http://{CANARY}:15672",
        f"http://{CANARY}@host:15672",
        f"http://u:{CANARY}@host:99999",
        f"http://u:{CANARY}@host:15672/?{CANARY}",
    ],
    "redis_url": [f"amqp://u:{CANARY}@host", f"redis://[{CANARY}/0"],
    "encryption_keys": [
        CANARY,
        f"k1:{CANARY}",
        f"{CANARY}:{KEY}",
        f"k1:{KEY},k1:{OTHER_KEY}",
        f"k1:{KEY},{CANARY}",
        f"ké:{KEY}",
        f"{'k' * 33}:{KEY}",
        f"k1:{base64.b64encode(CANARY.encode()).decode()}",
        ",",
    ],
    "lookup_key": [CANARY, base64.b64encode(b"short").decode(), f"{KEY}{CANARY}"],
    "mosaic_region": [CANARY],
    "mosaic_base_url": [
        CANARY,
        f"ftp://{CANARY}",
        f"https://u:{CANARY}@host",
        f"https://host?{CANARY}",
        f"https://host#{CANARY}",
        f"https://{CANARY}\N{ACCOUNT OF}.com",
        f"https://[{CANARY}",
        f"https://host:{CANARY}",
    ],
    "mosaic_proxy": [
        CANARY,
        f"{CANARY}:3128",
        f"socks5://u:{CANARY}@proxy:1080",
        f"http://u:{CANARY}@proxy",
        f"http://u:{CANARY}@proxy:{CANARY}",
        f"http://proxy:3128/{CANARY}",
        f"http://u:{CANARY}?@proxy:3128",
    ],
    "mosaic_timeout_seconds": [CANARY, "0", "-1", "31", "nan", "inf"],
    "clock_skew_seconds": [CANARY, "-1", "301", "1.5"],
    "session_lifetime_seconds": [CANARY, "0", "99999999999999"],
    "keep_ended_days": [CANARY, "-1", "nan", "inf", "1e12"],
    "concurrency": [CANARY, "0", "65"],
    "visibility_timeout_seconds": [CANARY, "0", "inf"],
    "metrics_port": [CANARY, "0", "65536"],
    "ca_certificates": [
        CANARY,
        f"{CANARY}é",
        f"-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----",
    ],
    "log_level": [CANARY, "INFO"],
    "log_format": [CANARY],
}


@pytest.mark.parametrize(
    ("field", "text"), [(field, text) for field, texts in MALFORMED.items() for text in texts]
)
def test_a_malformed_value_is_refused_by_name_and_never_quoted(field: str, text: str) -> None:
    name = variable_name(field)

    message = refusal({**KEYS, name: text})

    assert message.startswith(f"{name}: ")
    assert CANARY not in message
    assert base64.b64encode(CANARY.encode()).decode() not in message


def test_a_lease_that_does_not_outlive_two_calls_is_refused() -> None:
    message = refusal({**KEYS, "MOSAIC_SESSIONS_DELIVERY_LEASE_SECONDS": "20"})

    assert message == (
        "MOSAIC_SESSIONS_DELIVERY_LEASE_SECONDS must exceed twice "
        "MOSAIC_SESSIONS_MOSAIC_TIMEOUT_SECONDS"
    )


@pytest.mark.parametrize(
    ("guard", "grace"), [("120", None), ("300", "300"), (None, "60"), ("1", "0")]
)
def test_a_clock_guard_that_the_grace_does_not_outlast_is_refused(
    guard: str | None, grace: str | None
) -> None:
    given = {"guard_clock_seconds": guard, "expire_grace_seconds": grace}

    message = refusal(KEYS | {variable_name(n): text for n, text in given.items() if text})

    assert message == (
        "MOSAIC_SESSIONS_GUARD_CLOCK_SECONDS must be less than "
        "MOSAIC_SESSIONS_EXPIRE_GRACE_SECONDS: lower the first or raise the second"
    )


def test_another_broker_needs_a_redis_for_answers() -> None:
    message = refusal({**KEYS, "CELERY_BROKER_URL": f"amqp://u:{CANARY}@host//"})

    assert message.startswith("REDIS_URL is missing")
    assert CANARY not in message


# --- files


def test_a_variable_and_its_file_exclude_each_other(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text(CANARY, encoding="utf-8")

    message = refusal({**KEYS, "MOSAIC_SESSIONS_LOOKUP_KEY_FILE": str(file)})

    assert "MOSAIC_SESSIONS_LOOKUP_KEY and MOSAIC_SESSIONS_LOOKUP_KEY_FILE are both set" in message
    assert CANARY not in message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (CANARY.encode() + b"\xff\xfe", "not UTF-8"),
        (b" \n", "the file is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_by_its_setting(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "value"
    if content is not None:
        file.write_bytes(content)

    message = refusal({"MOSAIC_SESSIONS_LOOKUP_KEY_FILE": str(file)})

    assert message.startswith("MOSAIC_SESSIONS_LOOKUP_KEY_FILE: ")
    assert why in message
    assert CANARY not in message


def test_a_malformed_value_in_a_file_is_not_quoted_either(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text(CANARY, encoding="utf-8")
    keys = {"MOSAIC_SESSIONS_ENCRYPTION_KEYS": f"k1:{KEY}"}

    message = refusal({**keys, "MOSAIC_SESSIONS_LOOKUP_KEY_FILE": str(file)})

    assert message.startswith("MOSAIC_SESSIONS_LOOKUP_KEY: ")
    assert CANARY not in message


# --- the database alone, for migrations


def test_migrations_need_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOSAIC_SESSIONS_LOOKUP_KEY", raising=False)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///elsewhere.db")

    assert settings_module.database_url() == "sqlite:///elsewhere.db"


def test_migrations_read_the_file_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("sqlite:///filed.db\n", encoding="utf-8")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))

    assert settings_module.database_url() == "sqlite:///filed.db"


def test_migrations_use_the_same_default_as_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)

    assert settings_module.database_url() == read(KEYS).store_url


@pytest.mark.parametrize("url", MALFORMED["database_url"])
def test_migrations_do_not_quote_a_malformed_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)

    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL: (needs|leave)") as caught:
        settings_module.database_url()

    assert CANARY not in str(caught.value)


def test_migrations_refuse_two_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///a.db")
    monkeypatch.setenv("DATABASE_URL_FILE", "anywhere")

    with pytest.raises(ConfigurationError, match="are both set"):
        settings_module.database_url()


# --- what is shown


def secretive() -> Settings:
    """Settings with the canary, or a key, wherever a secret may be."""
    return settings(
        database_url=f"postgresql+psycopg://user:{CANARY}@db/sessions?password={CANARY}",
        broker_url=f"redis://:{CANARY}@broker:6379/0",
        redis_url=f"rediss://user:{CANARY}@cache:6379/0?password={CANARY}",
        notice_signing_keys=PEM,
        mosaic_proxy=f"http://user:{CANARY}@proxy:3128",
        rabbitmq_api_url=f"http://user:{CANARY}@broker:15672",
    )


def test_no_text_form_of_the_settings_tells_a_secret() -> None:
    kept = secretive()

    for text in (repr(kept), str(kept), f"{kept!r}", str(kept.model_dump()), repr(vars(kept))):
        assert CANARY not in text
        assert KEY not in text
        assert OTHER_KEY not in text
        assert PEM.splitlines()[1] not in text


def test_the_description_masks_keys_and_passwords() -> None:
    shown = describe(secretive())

    assert shown["MOSAIC_SESSIONS_ENCRYPTION_KEYS"] == "********"
    assert shown["MOSAIC_SESSIONS_LOOKUP_KEY"] == "********"
    assert shown["MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS"] == "********"
    assert shown["DATABASE_URL"] == "postgresql+psycopg://***@db/sessions"
    assert shown["CELERY_BROKER_URL"] == "redis://***@broker:6379/0"
    assert shown["REDIS_URL"] == "rediss://***@cache:6379/0"
    assert shown["MOSAIC_SESSIONS_MOSAIC_PROXY"] == "http://***@proxy:3128"
    assert shown["MOSAIC_SESSIONS_RABBITMQ_API_URL"] == "http://***@broker:15672"


def test_the_description_holds_every_setting_by_its_variable() -> None:
    shown = describe(read(KEYS))

    assert shown.keys() == {variable_name(field) for field in VALUES}
    assert shown["DATABASE_URL"] == "sqlite:///mosaic-sessions.db"
    assert shown["REDIS_URL"] is None
    assert shown["MOSAIC_SESSIONS_CONCURRENCY"] == 8


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://user:pa/{CANARY}@host/v",
        f"amqp://user:pa?{CANARY}@host/v",
        f"amqp://user:pa#{CANARY}@host/v",
        f"amqp://user:pa@{CANARY}@host/v",
        f"amqp://user:{CANARY}@one;amqp://user:{CANARY}@two",
        f"amqp://host/v?password={CANARY}@x",
        f"{CANARY}",
        f"amqp://host/v?password={CANARY}",
    ],
)
def test_a_password_that_breaks_its_url_is_masked_all_the_same(url: str) -> None:
    shown = describe(settings(broker_url=url, redis_url="redis://cache/0"))

    assert CANARY not in str(shown)
