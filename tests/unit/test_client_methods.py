"""The table of login methods: what its fields may hold, and who is told what they hold."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_client import AppKey, ConfigurationError, logins, methods, sealing
from session_client._core.message import seal
from session_client.contract import Reason, Task
from session_client.errors import WrongFieldsError
from session_client.login_steps import FirstStep, Limits, LoginStep, Proof, limits_of
from session_client.methods import Password, SendOtp, Totp, VerifySocial
from worker.errors import InvalidRequest
from worker.requests import commands
from worker.requests.login_commands import AuthenticateCommand, StartCommand

KEY = AppKey("k1", bytes(range(32)))
CANARY = "canary-7f3a"
CONTROL = "\x00\x1b[2J\n\u0085"
FIELDS = [(step, name) for step in methods.TABLE for name in limits_of(step)]


def dull(name: str, limits: Limits) -> str:
    if name == "redirect_uri":
        return "https://a.example"
    return limits.one_of[0] if limits.one_of else "x"


def filled(step: type[LoginStep], *, is_step_up: bool = False) -> dict[str, Any]:
    """All of the step's fields, each with something that it may hold."""
    return {
        name: dull(name, limits)
        for name, limits in limits_of(step).items()
        if not (limits.names_user and is_step_up)
    }


def wrong_fields(step: type[LoginStep], fields: dict[str, Any], *, step_up: bool = False) -> Any:
    with pytest.raises(WrongFieldsError) as caught:
        step.from_fields(fields, is_step_up=step_up)
    return caught.value.names


def handle_for(step: LoginStep) -> str | None:
    return "a-handle" if step.needs_login else None


def request_for(
    step: LoginStep, login: str | None, step_up: str | None = None
) -> logins.Start[Any] | logins.Authenticate:
    if isinstance(step, FirstStep):
        asked = {"amount": "12.50"} if step.needs_approval_data else None
        return logins.Start(step=step, login=login, step_up=step_up, approval_data=asked)
    return logins.Authenticate(proof=cast("Proof", step), login=login, step_up=step_up)


def payload_of(step: type[LoginStep], fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What somebody sends who does not use the client."""
    payload = {"method": step.method.value, "fields": fields} | more
    if issubclass(step, FirstStep):
        payload["step"] = step.step.value
    if step.needs_login:
        payload["login"] = "a-handle"
    return payload


def refused(step: type[LoginStep], payload: dict[str, Any]) -> str | None:
    task = Task.START if issubclass(step, FirstStep) else Task.AUTHENTICATE
    with pytest.raises(InvalidRequest) as caught:
        commands.parse(task, payload)
    assert caught.value.reason is Reason.INVALID_PAYLOAD
    return caught.value.detail


# What approves something is for users who are signed in.
AS_LOGIN_OR_STEP_UP = [
    (step, is_step_up)
    for step in methods.TABLE
    for is_step_up in (False, True)
    if is_step_up or not getattr(step, "needs_approval_data", False)
]


@pytest.mark.parametrize(("step", "is_step_up"), AS_LOGIN_OR_STEP_UP)
def test_what_the_client_sends_of_a_step_the_worker_reads_as_that_step(
    step: type[LoginStep], *, is_step_up: bool
) -> None:
    made = step.from_fields(filled(step, is_step_up=is_step_up), is_step_up=is_step_up)

    request = request_for(made, handle_for(made), "msb1_x" if is_step_up else None)
    command = commands.parse(request.task, json.loads(json.dumps(request.payload())))

    if isinstance(made, FirstStep):
        assert isinstance(command, StartCommand)
        assert command.wanted == made
    else:
        assert isinstance(command, AuthenticateCommand)
        assert command.proof == made


@pytest.mark.parametrize(("step", "name"), FIELDS)
def test_a_field_is_bounded_on_both_sides(step: type[LoginStep], name: str) -> None:
    limits = limits_of(step)[name]
    too_long = filled(step) | {name: "x" * (limits.longest + 1)}

    assert wrong_fields(step, too_long) == [name]
    assert refused(step, payload_of(step, too_long)) == name
    if not limits.one_of:
        step.from_fields(filled(step) | {name: "x" * limits.longest}, is_step_up=False)


@pytest.mark.parametrize("value", ["", 7, True, ["x"], {"x": 1}, "a\ud800b"], ids=repr)
@pytest.mark.parametrize(("step", "name"), FIELDS)
def test_a_field_takes_text_and_nothing_else(
    step: type[LoginStep], name: str, value: object
) -> None:
    fields = filled(step) | {name: value}

    assert wrong_fields(step, fields) == [name]
    assert refused(step, payload_of(step, fields)) == name


@pytest.mark.parametrize(("step", "name"), FIELDS)
def test_what_is_needed_cannot_be_left_out_or_null(step: type[LoginStep], name: str) -> None:
    without = {other: value for other, value in filled(step).items() if other != name}

    for fields in (without, without | {name: None}):
        if limits_of(step)[name].is_required:
            assert wrong_fields(step, fields) == [name]
            assert refused(step, payload_of(step, fields)) == name
        else:
            step.from_fields(fields, is_step_up=False)


@pytest.mark.parametrize("step", methods.TABLE)
def test_a_field_that_is_not_the_steps_is_refused_and_not_named(step: type[LoginStep]) -> None:
    fields = filled(step) | {CANARY: "x"}

    assert wrong_fields(step, fields) == ["unknown field"]
    assert refused(step, payload_of(step, fields)) == "unknown field"


@pytest.mark.parametrize(
    ("step", "name"), [(step, name) for step, name in FIELDS if limits_of(step)[name].names_user]
)
def test_in_a_step_up_nobody_says_whose_session_it_is(step: type[LoginStep], name: str) -> None:
    fields = filled(step, is_step_up=True) | {name: "x"}

    assert wrong_fields(step, fields, step_up=True) == [name]
    assert refused(step, payload_of(step, fields, step_up="msb1_x")) == name


def test_in_a_step_up_the_app_says_whose_account_at_a_provider_it_is() -> None:
    assert wrong_fields(methods.Social, {}, step_up=True) == ["user_id"]
    assert refused(methods.Social, payload_of(methods.Social, {}, step_up="msb1_x")) == "user_id"


@pytest.mark.parametrize(("step", "name"), FIELDS)
def test_control_characters_are_for_what_users_type(step: type[LoginStep], name: str) -> None:
    limits = limits_of(step)[name]
    fields = filled(step) | {name: CONTROL}

    if limits.takes_any_character:
        assert limits.is_secret
        step.from_fields(fields, is_step_up=False)
    else:
        assert wrong_fields(step, fields) == [name]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4096))
def test_every_password_arrives_as_it_was_typed(password: str) -> None:
    request = logins.Authenticate(proof=Password("ada", password))
    sealed = seal(request, app_id="shop", key=KEY)

    opened = sealing.unseal(sealed.envelope, sealing.Kind.REQUEST, lambda _: KEY)

    command = commands.parse(Task.AUTHENTICATE, opened["payload"])
    assert isinstance(command, AuthenticateCommand)
    assert command.proof == Password("ada", password)


@pytest.mark.parametrize(
    ("step", "name"), [(step, name) for step, name in FIELDS if limits_of(step)[name].is_secret]
)
def test_a_secret_field_is_in_no_repr(step: type[LoginStep], name: str) -> None:
    made = step.from_fields(filled(step) | {name: CANARY}, is_step_up=False)
    request = request_for(made, handle_for(made))
    command = commands.parse(request.task, request.payload())

    assert CANARY not in f"{made!r} {request!r} {command!r}"


SECRETS = ("login", "step_up", "replaces", "known_browser")


@given(st.data(), st.sampled_from(methods.TABLE))
def test_no_secret_of_a_login_is_in_a_repr_or_an_error(
    data: st.DataObject, step: type[LoginStep]
) -> None:
    """Each secret holds the canary; what else is given is right or wrong as it comes."""
    values = st.one_of(st.just(CANARY), st.text(max_size=3), st.none(), st.just("x" * 70_000))
    fields = {
        name: data.draw(values if limits.is_secret else st.sampled_from(["x", "sms", None]))
        for name, limits in limits_of(step).items()
    }
    told = ""
    try:
        made = cast("Any", step)(**{n: v for n, v in fields.items() if v is not None})
        told = repr(made)
        request = request_for(made, handle_for(made), data.draw(st.sampled_from([None, CANARY])))
        told += repr(request) + repr(dataclasses.replace(request, known_browser=CANARY))
        sealed = seal(request, app_id="shop", key=KEY)
        told += repr(sealed)
    except (TypeError, ConfigurationError) as error:
        told += f"{error} {error!r} {error.__cause__!r}"

    assert CANARY not in told


@pytest.mark.parametrize("secret", SECRETS)
def test_what_browsers_bring_along_is_in_no_repr(secret: str) -> None:
    request = (
        logins.Authenticate(
            proof=Totp("1", "ada", "user_id") if secret != "login" else methods.Code("1"),
            **{"login": None, secret: CANARY},  # type: ignore[arg-type]
        )
        if secret != "step_up"
        else logins.Authenticate(proof=Totp("1"), step_up=CANARY)
    )
    command = commands.parse(request.task, request.payload())

    assert CANARY not in f"{request!r} {command!r}"


@pytest.mark.parametrize(
    "step", [step for step in methods.TABLE if step.needs_login], ids=lambda step: step.__name__
)
def test_what_goes_on_with_a_first_step_needs_its_handle(step: type[LoginStep]) -> None:
    made = step.from_fields(filled(step), is_step_up=False)
    payload = payload_of(step, filled(step))
    del payload["login"]

    with pytest.raises(ConfigurationError, match=r"^login: "):
        request_for(made, None)
    assert refused(step, payload) == "login"


@pytest.mark.parametrize(
    "step", [step for step in methods.TABLE if not step.needs_login], ids=lambda s: s.__name__
)
def test_what_begins_by_itself_takes_no_handle(step: type[LoginStep]) -> None:
    made = step.from_fields(filled(step), is_step_up=False)

    with pytest.raises(ConfigurationError, match=r"^login: "):
        request_for(made, "a-handle")
    assert refused(step, payload_of(step, filled(step), login="a-handle")) == "login"


@pytest.mark.parametrize(
    ("step", "step_up", "said"),
    [
        (
            methods.SendOtp("sms"),
            None,
            (
                "SendOtp: identifier is needed, but in a step-up (step_up=); "
                "identifier_type is needed, but in a step-up (step_up=)"
            ),
        ),
        (
            methods.SendOtp("sms", "+44", "phone_number"),
            "msb1_x",
            (
                "SendOtp: leave identifier out, a step-up is of the session's own user; "
                "leave identifier_type out, a step-up is of the session's own user"
            ),
        ),
        (
            methods.SendOtp(CANARY, "+44", "phone_number"),
            None,
            "SendOtp: channel is one of sms, email",
        ),
        (
            methods.Password("", CANARY),
            None,
            "Password: username is text of 1 to 255 characters, none of them a control character",
        ),
        (
            methods.Password("ada", CANARY * 4096),
            None,
            "Password: password is text of 1 to 4096 characters",
        ),
    ],
)
def test_what_is_wrong_with_a_step_is_said_with_what_to_do(
    step: LoginStep, step_up: str | None, said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        request_for(step, None, step_up)

    assert str(caught.value) == said


ADDRESSED = [step for step in methods.TABLE if "redirect_uri" in limits_of(step)]


@pytest.mark.parametrize("step", ADDRESSED, ids=lambda step: step.__name__)
def test_what_leads_back_to_the_app_is_a_whole_address(step: Any) -> None:
    assert len(ADDRESSED) == 3
    for right in ("https://a.example/in", "http://localhost:5000/in", "com.example.app:/in"):
        request_for(step(**filled(step) | {"redirect_uri": right}), None)
    for wrong in ("/in", "in", "ada@a.example", "email", "localhost:5000", "mailto:ada@a.example"):
        with pytest.raises(ConfigurationError, match=f"{step.__name__}: redirect_uri is the whole"):
            request_for(step(**filled(step) | {"redirect_uri": wrong}), None)


@pytest.mark.parametrize("is_step_up", [False, True])
@pytest.mark.parametrize(("step", "name"), FIELDS)
def test_each_field_that_is_wrong_is_named_with_what_to_do_and_not_quoted(
    step: type[LoginStep], name: str, *, is_step_up: bool
) -> None:
    made = cast("Any", step)(**filled(step) | {name: CANARY * 327_680})

    with pytest.raises(ConfigurationError, match=f"{step.__name__}: .*{name} ") as caught:
        request_for(made, handle_for(made), "msb1_x" if is_step_up else None)

    assert CANARY not in str(caught.value)


def test_a_step_up_replaces_no_session() -> None:
    with pytest.raises(ConfigurationError, match=r"^replaces: "):
        logins.Authenticate(proof=Totp("1"), step_up="msb1_x", replaces="msb1_y")
    both = payload_of(Totp, {"code": "1"}, step_up="msb1_x", replaces="msb1_y")
    assert refused(Totp, both) == "payload"


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"method": "pin", "fields": {}}, "method"),
        ({"method": "", "fields": {}}, "method"),
        ({"method": None, "fields": {}}, "method"),
        ({"fields": {}}, "method"),
        ({"method": "otp_direct", "fields": {"code": "1"}}, "step"),
        ({"method": "password", "fields": [["username", "ada"]]}, "fields"),
        ({"method": "password", "fields": "username"}, "fields"),
        ({"method": "password"}, "password, username"),
        ({"method": "password", "fields": {}, CANARY: 1}, "unknown field"),
        ({"method": "password", "fields": {}, "login": ""}, "login"),
        ({"method": "password", "fields": {}, "known_browser": "x" * 4097}, "known_browser"),
    ],
)
def test_a_login_of_another_shape_is_refused_by_the_fields_name(
    payload: dict[str, Any], named: str
) -> None:
    detail = refused(Password, payload)

    assert detail is not None
    assert named in detail
    assert CANARY not in detail


def test_a_phones_key_has_no_first_step_to_approve_by() -> None:
    asked = {"step_up": "msb1_x", "approval_data": {"amount": "1"}}
    payload = payload_of(SendOtp, {}, **asked) | {"method": "mobile_biometrics"}

    assert refused(SendOtp, payload) == "step"


@pytest.mark.parametrize("step", ["authenticate", "", "begin", 1, ["start"]])
def test_a_first_step_is_to_start_or_to_verify(step: object) -> None:
    payload = payload_of(SendOtp, {"channel": "sms"}, step_up="msb1_x") | {"step": step}

    assert refused(SendOtp, payload) == "step"


def test_a_proof_is_no_first_step_and_a_first_step_no_proof() -> None:
    with pytest.raises(ConfigurationError, match=r"^step: "):
        logins.Start(step=Password("ada", "p"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^proof: "):
        logins.Authenticate(proof=VerifySocial("c", "s"), login="h")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^proof: "):
        logins.Authenticate(proof="password")  # type: ignore[arg-type]
