"""A tenant that survives a restart: what it knows lies in a file between two runs.

The file is a pickle: read none that an attacker may have written.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Final

from joserfc.jwk import Key, import_key

from simulator.idp.state import MosaicState
from simulator.idp.tokens import TokenMaker

# One pickle for all, because they share the clock and the policy. Faults, gates and the record of
# calls are a test's, and begin anew.
_KEPT: Final = (
    *("clock", "policy", "keys", "clients", "sessions", "refresh_tokens", "users", "attempts"),
    *("outbox", "authenticator_apps", "passkeys", "cross_device", "biometrics", "social"),
    "_frontend_sessions",
)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Write keys as JWKs: what they are made of cannot be pickled."""
        if isinstance(value, Key):
            return import_key, (value.as_dict(private=value.is_private),)
        return NotImplemented


def save(state: MosaicState, path: Path) -> None:
    """Write what *state* knows to *path*, for its owner alone. It must not be serving any more."""
    draft = path.with_name(f"{path.name}.draft")
    draft.touch(mode=0o600)
    with draft.open("wb") as file:
        _Pickler(file).dump({name: getattr(state, name) for name in _KEPT})
    draft.replace(path)  # whole or not at all


def restore(path: Path) -> MosaicState:
    """Return a tenant that knows what was saved at *path*."""
    state = MosaicState()
    for name, value in pickle.loads(path.read_bytes()).items():  # noqa: S301 - our own file
        setattr(state, name, value)
    state.tokens = TokenMaker(state.clock, state.policy, state.keys)
    return state
