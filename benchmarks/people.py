"""Who asks, and for whom: names that every part of the bench works out by itself.

Request number *k* is about user *k* of `USERS`, and each user is always asked for by the same
app. A user comes again only after all other users, so nothing can be answered from a recent answer.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

APPS: Final = 4  # so that no limit per app is met
USERS: Final = 20_000
GUESTS: Final = 4_000
ISSUER: Final = "https://userid.security"
_SESSION_PREFIX: Final = "sid."

APP_IDS: Final = tuple(f"app-{number}" for number in range(APPS))


def user_id(number: int) -> str:
    """Return the name of user *number*."""
    return f"user-{number % USERS:06d}"


def app_of(number: int) -> str:
    """Return the app that asks for user *number*."""
    return APP_IDS[number % USERS % APPS]


def client_id(app_id: str) -> str:
    """Return an app's client at Mosaic."""
    return f"client-{app_id}"


def client_secret(app_id: str) -> str:
    """Return its secret, which the fake does not look at."""
    return f"secret-of-{app_id}"


def session_id(user: str) -> str:
    """Return the id of a user's session at Mosaic; the fake reads the user from it."""
    return _SESSION_PREFIX + user


def guest(number: int) -> str:
    """Return who logs in: none of the users, or they would have ever more sessions to choose of."""
    return f"guest-{number % GUESTS:06d}"


def guests_app(number: int) -> str:
    """Return the app at which a guest logs in."""
    return APP_IDS[number % GUESTS % APPS]


def login_session_id(user: str, number: int) -> str:
    """Return the id of the session that a user's *number*th login opens."""
    return f"{session_id(user)}.{number}"


def browser_token(user: str) -> str:
    """Return the token of the browser in which the user is signed in."""
    digest = hashlib.sha256(user.encode()).digest()
    return f"msb1_{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def user_of(session: str) -> str:
    """Return whose session it is."""
    return session.removeprefix(_SESSION_PREFIX)
