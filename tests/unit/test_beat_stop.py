"""What beat does when it is told to end, in a process of its own and within a worker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from worker.celery_support import beat_stop

ENDING = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def service() -> Any:
    return SimpleNamespace(_is_shutdown=Event())


@pytest.mark.parametrize("number", ENDING)
def test_beat_looks_at_no_further_entry_though_celerys_handler_fails(
    service: Any, number: signal.Signals
) -> None:
    def celerys(_number: int, _frame: Any) -> None:
        raise ValueError("I/O operation on closed file")

    signal.signal(number, celerys)
    beat_stop.end_when_told(service)

    with pytest.raises(ValueError, match="closed file"):
        signal.raise_signal(number)

    assert service._is_shutdown.is_set()


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_within_a_worker_a_signal_goes_on_to_end_its_process_or_to_be_ignored(
    service: Any, number: signal.Signals, handler: signal.Handlers
) -> None:
    """Celery sets no handler of its own there (``celery worker -B``)."""
    signal.signal(number, handler)

    beat_stop.end_when_told(service)

    assert signal.getsignal(number) == handler
