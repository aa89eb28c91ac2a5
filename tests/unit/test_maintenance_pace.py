"""Maintenance rests when its batches take longer than they would alone."""

from __future__ import annotations

import pytest

from worker.maintenance import pace
from worker.maintenance.pace import Pace

UNLIMITED = 1e9
ALONE = 0.01  # seconds that a batch of a hundred takes where nobody else is


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_quickest", {})


def rests(run: Pace, *seconds: float) -> list[float]:
    return [run.rest(100, each) for each in seconds]


def test_alone_it_does_not_rest() -> None:
    assert rests(Pace("expired", UNLIMITED), ALONE, 1.4 * ALONE, ALONE) == [0, 0, 0]


def test_the_longer_a_batch_had_to_wait_the_longer_is_the_rest() -> None:
    run = Pace("expired", UNLIMITED)

    first, crowded, more_crowded, last = rests(run, ALONE, 3 * ALONE, 6 * ALONE, ALONE)

    assert (first, last) == (0, 0)
    assert crowded >= ALONE
    assert more_crowded > 2 * crowded


def test_it_is_slowed_down_to_no_less_than_a_third() -> None:
    run = Pace("expired", UNLIMITED)

    _, rest = rests(run, ALONE, 1000 * ALONE)

    assert ALONE < rest <= 2000 * ALONE


def test_a_run_that_begins_among_users_knows_how_quick_it_has_been() -> None:
    rests(Pace("expired", UNLIMITED), ALONE)

    (rest,) = rests(Pace("expired", UNLIMITED), 4 * ALONE)

    assert rest > ALONE
    assert rests(Pace("sessions", UNLIMITED), 4 * ALONE) == [0]  # of something else


def test_what_is_never_reached_again_is_forgotten() -> None:
    rests(Pace("expired", UNLIMITED), ALONE)

    runs = [rests(Pace("expired", UNLIMITED), 4 * ALONE)[0] for _ in range(20)]

    assert runs[0] > runs[1] > runs[5]
    assert runs[-1] == 0


def test_it_is_never_faster_than_the_settings_allow() -> None:
    assert rests(Pace("expired", 1000.0), ALONE) == [pytest.approx(0.1 - ALONE)]


def test_a_batch_that_found_nothing_to_do_says_nothing() -> None:
    run = Pace("sessions", UNLIMITED)

    assert run.rest(0, 1.0) == 0
    assert rests(run, ALONE, 2 * ALONE) == [0, pytest.approx(ALONE)]
