"""The tenant's users, by each name they can be found under."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from simulator.idp.errors import Dialect, refused_in
from simulator.idp.records import User

ATTRIBUTE_BY_TYPE = {
    "user_id": "user_id",
    "username": "username",
    "email": "email",
    "phone_number": "phone",
}


class Users:
    """No two of them share an id, a username, an address or a phone number."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str], User] = {}

    def add(self, user: User) -> None:
        """Add a user, in place of the one with this id; 409 when a name of theirs is taken."""
        for kind, name in _names(user):
            holder = self._by_name.get((kind, name))
            if holder is not None and holder.user_id != user.user_id:
                raise _taken(kind)
        if former := self.get(user.user_id):
            self._forget(former)
        self._by_name.update(dict.fromkeys(_names(user), user))

    def ensure(self, user_id: str) -> User:
        """The user of this id, made up if no user has it."""
        user = self.get(user_id)
        if user is None:
            user = User(user_id)
            self.add(user)
        return user

    def get(self, user_id: str) -> User | None:
        """The user of this id."""
        return self._by_name.get(("user_id", user_id))

    def find(self, kind: str, name: str) -> User | None:
        """The user whose identifier of this *kind* is *name*; unknown kinds find none."""
        return self._by_name.get((kind, name))

    def find_by_any(self, name: str) -> User | None:
        """The user who has *name* as an identifier of whatever kind."""
        found = (self.find(kind, name) for kind in ATTRIBUTE_BY_TYPE)
        return next((user for user in found if user), None)

    def change(self, user_id: str, **facts: Any) -> None:
        """Change what is known of a user; LookupError if there is no such user."""
        user = self.get(user_id)
        if user is None:
            raise LookupError(f"no such user: {user_id}")
        self.add(replace(user, **facts))

    def _forget(self, user: User) -> None:
        for name in _names(user):
            del self._by_name[name]


def _names(user: User) -> Iterator[tuple[str, str]]:
    for kind, attribute in ATTRIBUTE_BY_TYPE.items():
        if name := getattr(user, attribute):
            yield kind, name


def _taken(kind: str) -> Exception:
    return refused_in(Dialect.BOTH, 409, f"{kind} is already taken", "user_identifier_taken")
