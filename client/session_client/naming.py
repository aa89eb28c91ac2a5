"""Which session a request is about: said in exactly one way, by one rule on both sides."""

from __future__ import annotations

from session_client.contract import LogoutScope


def names_one_session(
    *, browser_token: object, ticket: object, session_ref: object, user_id: object
) -> bool:
    """Whether a silent authentication says in exactly one way whose session is to be used.

    A ``session_ref`` comes with its ``user_id``; the other names come alone.
    """
    by_user = session_ref is None and user_id is not None
    ways = [browser_token is not None, ticket is not None, session_ref is not None, by_user]
    return sum(ways) == 1 and (session_ref is None or user_id is not None)


def names_what_to_end(  # noqa: PLR0913 - each is a field of the contract
    scope: LogoutScope,
    *,
    user_id: object,
    browser_token: object,
    session_ref: object,
    session_id: object,
    device_id: object,
) -> bool:
    """Whether a logout says what its scope needs, and nothing else.

    A browser token comes alone: it needs no user, and knows whose session it names.
    """
    fields = (user_id, browser_token, session_ref, session_id, device_id)
    wanted = {
        LogoutScope.SESSION: (
            (False, True, False, False, False),
            (True, False, True, False, False),
            (True, False, False, True, False),
        ),
        LogoutScope.DEVICE: ((True, False, False, False, True),),
        LogoutScope.USER: ((True, False, False, False, False),),
    }
    return tuple(value is not None for value in fields) in wanted[scope]
