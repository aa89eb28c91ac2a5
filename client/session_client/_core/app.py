"""In whose name a client asks, and what the worker has answered about that app."""

from __future__ import annotations

import time
from collections.abc import Sequence

from session_client import contract
from session_client.errors import ConfigurationError
from session_client.keys import AppKey
from session_client.values import About


class App:
    """One app, with its key. What the earlier keys sealed is still opened."""

    def __init__(self, app_id: str, key: AppKey, earlier_keys: tuple[AppKey, ...] = ()) -> None:
        self.app_id = app_id
        self.key = key
        self.keys = {known.kid: known for known in (*earlier_keys, key)}
        # One step each to write, so that threads need no lock.
        self._answer: tuple[About, float] | None = None

    @classmethod
    def of(cls, app_id: str, key: str | AppKey, earlier_keys: Sequence[str | AppKey]) -> App:
        """Read what a client was given. Raises `ConfigurationError`."""
        if not contract.is_app_id(app_id):
            raise ConfigurationError("app_id: lower-case letters, digits, - and _ (64 at most)")
        return cls(app_id, AppKey.of(key), tuple(map(AppKey.of, earlier_keys)))

    @property
    def about(self) -> About | None:
        """What the worker said last."""
        return None if self._answer is None else self._answer[0]

    @property
    def seconds_since_answer(self) -> float:
        """How long ago it said that."""
        return float("inf") if self._answer is None else time.monotonic() - self._answer[1]

    def remember(self, about: About) -> None:
        """Keep what the worker says."""
        self._answer = about, time.monotonic()
