from __future__ import annotations

import pydoc
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import pytest

from session_client import (
    AppKey,
    AsyncSessionClient,
    ConfigurationError,
    Logout,
    Register,
    SessionClient,
    SilentAuth,
    Status,
    Wishes,
    contract,
    requests,
    times,
)
from session_client._core.message import seal

KEY = AppKey("k1", bytes(range(32)))
NOW = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
NOWHERE = "redis://127.0.0.1:1/0"
C = TypeVar("C")


def made(kind: type[C], **changes: Any) -> C:
    given: dict[str, Any] = {"broker_url": NOWHERE, "app_id": "shop", "app_key": KEY}
    return kind(**given | changes)


def client(**changes: Any) -> SessionClient:
    return made(SessionClient, **changes)


@pytest.mark.parametrize(
    ("fields", "scope"),
    [
        ({"session_ref": "r"}, "session"),
        ({"session_id": "s"}, "session"),
        ({"device_id": "d"}, "device"),
        ({"everywhere": True}, "user"),
    ],
    ids=str,
)
def test_a_logout_names_what_ends(fields: dict[str, Any], scope: str) -> None:
    told = {name: value for name, value in fields.items() if name != "everywhere"}

    assert Logout(user_id="ada", **fields).payload() == {"user_id": "ada", "scope": scope, **told}


def test_what_is_not_given_does_not_travel() -> None:
    assert SilentAuth(user_id="ada").payload() == {"user_id": "ada"}
    assert Status(user_id="ada").payload() == {"user_id": "ada"}


def test_what_is_given_travels_under_the_contracts_names() -> None:
    request = SilentAuth(
        user_id="ada",
        amr_all_of=("pwd", "otp"),
        max_age=0,
        wishes=Wishes(user_agent="Browser", ip_address="::1"),
    )

    assert request.payload() == {
        "user_id": "ada",
        "amr_all_of": ["pwd", "otp"],
        "max_age": 0,
        "client_attributes": {"user_agent": "Browser", "ip_address": "::1"},
    }


@pytest.mark.parametrize("field", ["amr_all_of", "amr_any_of"])
def test_methods_given_as_one_string_are_refused(field: str) -> None:
    with pytest.raises(ConfigurationError):
        SilentAuth(user_id="ada", **{field: "mfa"})  # type: ignore[arg-type]


def test_secrets_are_in_no_repr() -> None:
    request = Register(user_id="ada", session_id="the-session", id_token="the-token")
    logout = Logout(user_id="ada", session_id="the-session")
    message = seal(request, app_id="shop", key=KEY)

    shown = f"{request!r} {logout!r} {message!r} {client()!r} {KEY!r}"

    assert "the-session" not in shown
    assert "the-token" not in shown
    assert message.envelope not in shown
    assert "redis://" not in shown


def test_the_content_says_all_that_the_worker_checks() -> None:
    content = requests.content_of(
        Status(user_id="ada"),
        app_id="shop",
        request_id="r" * 16,
        issued_at=NOW,
        lifetime=timedelta(seconds=5),
    )

    assert content == {
        "v": 1,
        "task": "sessions.status",
        "app_id": "shop",
        "request_id": "r" * 16,
        "issued_at": "2026-11-02T08:00:00Z",
        "deadline": "2026-11-02T08:00:05Z",
        "payload": {"user_id": "ada"},
    }


@pytest.mark.parametrize(
    "claims",
    [{"a": object()}, {"a": float("nan")}, {"a": float("inf")}, {("a",): 1}, {"a": b"bytes"}],
)
def test_claims_that_json_cannot_carry_are_refused(claims: Any) -> None:
    with pytest.raises(ConfigurationError, match="JSON"):
        client().silent_auth(user_id="ada", wishes=Wishes(claims=claims))


def test_claims_nested_deeper_than_the_worker_reads_are_refused() -> None:
    claims: dict[str, Any] = {}
    for _ in range(contract.MAX_NESTING):
        claims = {"deeper": [claims]}

    with pytest.raises(ConfigurationError, match="JSON"):
        client().silent_auth(user_id="ada", wishes=Wishes(claims=claims))


def test_claims_that_contain_themselves_are_refused() -> None:
    claims: dict[str, Any] = {}
    claims["claims"] = claims

    with pytest.raises(ConfigurationError, match="JSON"):
        client().silent_auth(user_id="ada", wishes=Wishes(claims=claims))


def test_a_request_larger_than_the_contract_allows_is_refused_here() -> None:
    with pytest.raises(ConfigurationError, match="448 KiB"):
        client().register(user_id="ada", session_id="s", id_token="t" * 400_000)
    with pytest.raises(ConfigurationError, match="64 KiB"):
        client().silent_auth(user_id="ada", wishes=Wishes(resource="r" * 70_000))


@pytest.mark.parametrize(
    "timeout",
    [
        0,
        -1,
        float("nan"),
        float("inf"),
        1e9,
        pytest.param(10**400, id="more than a float holds"),
        None,
        "3",
        timedelta(seconds=3),
    ],
)
def test_a_timeout_that_is_no_duration_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        client().status(user_id="ada", timeout=timeout)
    with pytest.raises(ConfigurationError, match="timeout"):
        client().logout(user_id="ada", everywhere=True, timeout=timeout)


@pytest.mark.parametrize(
    "wrong",
    [{"for_app": "Forum"}, {"for_app": ""}, {"challenge": "c" * 42}, {"challenge": "c" * 42 + "="}],
    ids=str,
)
def test_a_ticket_is_for_an_app_and_by_a_challenge(wrong: dict[str, str]) -> None:
    fields: dict[str, Any] = {"browser_token": "b", "for_app": "forum", "challenge": "c" * 43}

    with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: "):
        client().ticket(**fields | wrong)


@pytest.mark.parametrize("wait", ["", "everybody", None, 1])
def test_a_logout_waits_for_one_of_three(wait: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^wait: "):
        client().logout(browser_token=None, wait=wait)
    with pytest.raises(ConfigurationError, match=r"^wait: "):
        client().revoke_user("ada", wait=wait)


@pytest.mark.parametrize("request_id", ["", "short", "r" * 65, "r" * 15 + "é", "r" * 15 + ":"])
def test_a_request_id_of_another_form_is_refused(request_id: str) -> None:
    with pytest.raises(ConfigurationError, match="request_id"):
        client().logout(user_id="ada", everywhere=True, request_id=request_id)


@pytest.mark.parametrize("app_id", ["", "Shop", "shop:1", "-shop", "s" * 65, None])
def test_an_app_id_of_another_form_is_refused(app_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="app_id"):
        client(app_id=app_id)


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        client(app_key="no key")


def test_a_broker_that_is_no_redis_needs_a_place_for_answers() -> None:
    with pytest.raises(ConfigurationError, match="reply_url"):
        client(broker_url="amqp://127.0.0.1:1//")

    client(broker_url="amqp://127.0.0.1:1//", reply_url=NOWHERE)


@pytest.mark.parametrize("kind", [SessionClient, AsyncSessionClient])
def test_help_names_what_a_call_takes(kind: type[Any]) -> None:
    made = kind(broker_url=NOWHERE, app_id="shop", app_key=AppKey.generate())

    for call in (made.status, made.authenticate):
        text = pydoc.plain(pydoc.render_doc(call))
        assert "request_id: 'str | None' = None" in text
        assert "*args" not in text
    assert "user_id: 'str'" in pydoc.plain(pydoc.render_doc(made.status))


def test_a_broker_that_is_no_redis_says_that_it_needs_celery_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kombu.transport", None)

    with pytest.raises(ConfigurationError, match=r"pip install mosaic-session-client\[celery\]"):
        client(broker_url="amqp://127.0.0.1:1//", reply_url=NOWHERE)


@pytest.mark.parametrize("name", ["broker_url", "reply_url"])
@pytest.mark.parametrize(
    "url",
    [
        b"redis://127.0.0.1:1/0",
        6379,
        "localhost:6379",
        "redis:/host/0",
        "http://host/0",
        "redis://:hunter2@host:port/0",
        "redis://:hunter2@host:99999/0",
        "redis://:hunter2@host/abc",
        "redis://:hunter2@host/0/1",
        "rediss://:hunter2@host/-1",
    ],
)
def test_a_url_that_is_none_is_refused_by_the_arguments_name_and_without_being_quoted(
    name: str, url: Any
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as caught:
        client(**{name: url})

    assert "hunter2" not in str(caught.value)


PLACES = {
    "redis": "redis://shop:hunter2@host/0?",
    "rediss": "rediss://shop:hunter2@host/0?ssl_check_hostname=true&",
    "sentinel": "redis://shop:hunter2@master/0?sentinels=host:26379&sentinel_password=hunter2&",
    "unix": "unix://shop:hunter2@/run/redis.sock?db=1&",
}
TAKEN = [
    "", "socket_connect_timeout=1", "retry_on_timeout=yes", "health_check_interval=5",
    "max_connections=3", "encoding=utf-8", "client_name=shop",
]  # fmt: skip
UNKNOWN = ["foo=bar", "virtual_host=1", "Socket_timeout=1", "ssl_cert_reqs=yes", "ssl=true"]


@pytest.mark.parametrize("kind", [SessionClient, AsyncSessionClient])
@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        (name, scheme)
        for name in ("broker_url", "reply_url")
        for scheme in PLACES
        if (name, scheme) != ("broker_url", "unix")
    ],
)
def test_an_option_that_redis_py_does_not_take_is_refused_by_its_name(
    kind: type[Any], name: str, scheme: str
) -> None:
    for option in UNKNOWN:
        url = f"{PLACES[scheme]}socket_timeout=1&{option}&client_name=hunter2"

        with pytest.raises(ConfigurationError, match=f"^{name}: ") as caught:
            made(kind, **{name: url})

        assert f" {option.partition('=')[0]} " in str(caught.value)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("kind", [SessionClient, AsyncSessionClient])
@pytest.mark.parametrize(
    "url", ["redis://shop:12?hunter=2@host/0", "redis://shop:12?h=hunter@host/0"]
)
def test_of_a_password_with_a_question_mark_in_it_no_part_is_named(
    kind: type[Any], url: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"^broker_url: ") as caught:
        made(kind, broker_url=url)

    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("kind", [SessionClient, AsyncSessionClient])
@pytest.mark.parametrize("scheme", PLACES)
def test_what_redis_py_takes_is_taken(kind: type[Any], scheme: str) -> None:
    for option in TAKEN:
        made(kind, broker_url=NOWHERE, reply_url=PLACES[scheme] + option)


def test_a_list_of_brokers_is_refused_as_one() -> None:
    with pytest.raises(ConfigurationError, match=r"^broker_url: one URL, not a list"):
        client(broker_url="redis://a:6379/0;redis://b:6379/0")


@pytest.mark.parametrize("url", [None, "", "unix:///run/redis.sock"])
def test_a_broker_that_is_none_is_refused_though_answers_have_a_place(url: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^broker_url: "):
        client(broker_url=url, reply_url=NOWHERE)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://host/",
        "redis://host//",
        "rediss://shop:secret@host:6380/15?ssl_ca_certs=/etc/ssl/company.pem",
        "unix:///run/redis.sock?db=3",
    ],
)
def test_these_are_places_for_answers(url: str) -> None:
    client(broker_url="sentinel://host:26379", reply_url=url)


def test_times_travel_in_utc() -> None:
    east = timezone(timedelta(hours=2))

    assert times.to_wire(NOW.astimezone(east)) == "2026-11-02T08:00:00Z"
    assert times.from_wire("2026-11-02T10:00:00+02:00") == NOW


@pytest.mark.parametrize("text", ["2026-11-02T08:00:00", "yesterday", "", None, 1])
def test_what_is_no_moment_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        times.from_wire(text)


def test_a_naive_time_does_not_travel() -> None:
    with pytest.raises(ValueError, match="zone"):
        times.to_wire(datetime(2026, 11, 2, 8, 0))  # noqa: DTZ001


def test_new_request_ids_are_valid_and_random() -> None:
    made = {requests.new_request_id() for _ in range(100)}

    assert len(made) == 100
    assert all(contract.is_request_id(request_id) for request_id in made)


def test_a_request_without_a_payload_is_an_unfinished_class() -> None:
    with pytest.raises(TypeError, match="abstract"):
        requests.Request()  # type: ignore[abstract]
