"""How strong a session must be for an app.

Mosaic returns tokens as long as the session lives, however weak its login was: strength is
checked here, before the call on what we know, and after it on what the token says.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a session lacks."""

    missing_amr: tuple[str, ...] = ()
    max_age_exceeded: bool = False
    is_amr_unproven: bool = False  # it may have all of it, but there was no ID token to say so


@dataclass(frozen=True, slots=True)
class Policy:
    """All of ``all_of``, at least one of each set in ``any_of``, and a login not too long ago."""

    all_of: frozenset[str] = frozenset()
    any_of: tuple[frozenset[str], ...] = ()
    max_age: timedelta | None = None

    def and_also(self, other: Policy) -> Policy:
        """Return the policy that asks for both: a request can only ever ask for more."""
        ages = [age for age in (self.max_age, other.max_age) if age is not None]
        return Policy(
            self.all_of | other.all_of,
            self.any_of + other.any_of,
            min(ages) if ages else None,
        )

    def shortfall(
        self, amr: Collection[str] | None, authenticated_at: datetime, now: datetime
    ) -> Shortfall | None:
        """Return what *amr* and the time of the last active login lack, None if it is nothing.

        An *amr* of None proves no factor.
        """
        proven = set(amr or ())
        missing = sorted(self.all_of - proven)
        for choice in self.any_of:
            if choice.isdisjoint(proven):
                missing.extend(sorted(choice - set(missing)))
        too_old = self.max_age is not None and now - authenticated_at > self.max_age
        if not (missing or too_old):
            return None
        return Shortfall(tuple(missing), too_old, is_amr_unproven=amr is None and bool(missing))


def policy_of(
    all_of: Collection[str], any_of: Collection[str], max_age_seconds: int | None
) -> Policy:
    """Build a policy from stored or requested values."""
    return Policy(
        frozenset(all_of),
        (frozenset(any_of),) if any_of else (),
        None if max_age_seconds is None else timedelta(seconds=max_age_seconds),
    )
