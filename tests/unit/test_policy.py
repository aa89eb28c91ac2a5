"""How strong a session must be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy import Policy, Shortfall, policy_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
METHODS = st.frozensets(st.sampled_from(["pwd", "sms", "eml", "webauthn", "mfa"]))
POLICIES = st.builds(
    policy_of, METHODS, METHODS, st.none() | st.integers(min_value=0, max_value=10_000)
)
AGES = st.integers(min_value=-60, max_value=20_000).map(lambda seconds: timedelta(seconds=seconds))


def test_no_policy_lacks_nothing() -> None:
    assert Policy().shortfall([], NOW - timedelta(days=400), NOW) is None


@pytest.mark.parametrize(
    ("all_of", "any_of", "amr", "missing"),
    [
        (["pwd"], [], ["pwd", "sms"], ()),
        (["mfa", "webauthn"], [], ["pwd", "mfa"], ("webauthn",)),
        ([], ["sms", "eml"], ["eml"], ()),
        ([], ["sms", "eml"], ["pwd"], ("eml", "sms")),
        (["mfa"], ["sms", "mfa"], ["pwd"], ("mfa", "sms")),
        (["mfa"], ["sms"], [], ("mfa", "sms")),
    ],
)
def test_missing_methods_are_named_once_each(
    all_of: list[str], any_of: list[str], amr: list[str], missing: tuple[str, ...]
) -> None:
    lacking = Shortfall(missing) if missing else None
    assert policy_of(all_of, any_of, None).shortfall(amr, NOW, NOW) == lacking


@pytest.mark.parametrize(
    ("max_age", "age", "exceeded"),
    [(60, 60, False), (60, 60.001, True), (0, 0, False), (0, 0.001, True), (60, -30, False)],
)
def test_the_last_login_may_be_just_as_old_as_allowed(
    max_age: int,
    age: float,
    exceeded: bool,  # noqa: FBT001
) -> None:
    shortfall = policy_of([], [], max_age).shortfall([], NOW - timedelta(seconds=age), NOW)

    assert shortfall == (Shortfall((), max_age_exceeded=True) if exceeded else None)


@pytest.mark.parametrize(
    ("app", "request_", "both"),
    [(None, None, None), (60, None, 60), (None, 60, 60), (60, 3600, 60), (3600, 60, 60)],
)
def test_of_two_maximum_ages_the_shorter_one_counts(
    app: int | None, request_: int | None, both: int | None
) -> None:
    combined = policy_of([], [], app).and_also(policy_of([], [], request_))

    assert combined == policy_of([], [], both)


@given(app=POLICIES, request=POLICIES, amr=METHODS, age=AGES)
def test_a_request_asks_for_more_and_never_for_less(
    app: Policy, request: Policy, amr: frozenset[str], age: timedelta
) -> None:
    both = app.and_also(request)

    def lacks(policy: Policy) -> bool:
        return policy.shortfall(amr, NOW - age, NOW) is not None

    assert lacks(both) == (lacks(app) or lacks(request))
