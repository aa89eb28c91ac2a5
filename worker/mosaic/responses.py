"""What each answer of Mosaic means, as one table.

Success is recognised and never assumed: a logout counts as done by what the answer itself says, or
a gateway's 404 for a wrong base URL would confirm logouts that never happened. A stored session
ends only on a 400 or 404 that says "session not found": any other is about our request, and ending
sessions for it would log people out because of our bug. Source: "Errors" in the protocol sheet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from worker.mosaic import wording
from worker.mosaic.asked import Asked, Endpoint
from worker.mosaic.response_content import Content, tells_no_error


class Meaning(Enum):
    """Who must act on an answer; each but the first is one of our errors."""

    DONE = auto()
    SESSION_GONE = auto()
    LOGOUT_REFUSED = auto()
    USER_REFUSED = auto()
    PROOF_REFUSED = auto()
    STEP_REFUSED = auto()  # of a login, for what fits nothing else
    OPTIONS_REFUSED = auto()
    REDIRECT_REFUSED = auto()  # of the fields that an app must give, the only one it can mend
    CLIENT_REFUSED = auto()
    UNAVAILABLE = auto()
    PAGE = auto()  # unavailable, too: something on the way there answered instead
    RATE_LIMITED = auto()
    ELSEWHERE = auto()  # the contract is broken, but by a server that is not Mosaic's
    CONTRACT_BROKEN = auto()


# The questions a row may ask.

_Question = Callable[[Content, Asked], bool]


def _anything(_: Content, __: Asked) -> bool:
    return True


def _is_json(content: Content, _: Asked) -> bool:
    return content.is_json


def _is_no_json(content: Content, _: Asked) -> bool:
    return not content.is_json


def _tells_no_error(content: Content, _: Asked) -> bool:
    return tells_no_error(content)


def _is_list(content: Content, _: Asked) -> bool:
    return isinstance(content.value, list)


def _counts_deleted(content: Content, _: Asked) -> bool:
    result = content.value.get("result") if isinstance(content.value, dict) else None
    count = result.get("deleted_count") if isinstance(result, dict) else None
    return isinstance(count, int) and not isinstance(count, bool) and tells_no_error(content)


def _session_not_found(content: Content, _: Asked) -> bool:
    return content.says("session not found", "auth session not found", "invalid auth session")


def _about_user(content: Content, _: Asked) -> bool:
    return content.about_user() is not None


def _invalid_client(content: Content, _: Asked) -> bool:
    return content.says("invalid client", "unauthorized client", "invalid client credentials")


def _unknown_client(content: Content, _: Asked) -> bool:
    return content.says(*(f"{it} not found" for it in ("client", "app", "application")))


# What keeps Mosaic from sending anything, or from asking for a passkey.
_NO_WAY_TO_USER: Final = (
    "user email address missing",
    "user phone number missing",
    "auth login preferences missing",
    "no credentials registered",
)
# Who has no account may not make one by asking for a link. The page tells it in passing, not in the
# words of the answer. Taken for a right that our client lacks, any name that nobody has would call
# an operator, cost the app its client token, and tell that nobody has it.
_NO_SIGNUP: Final = re.compile(
    r"(?:the )?public sign ?up(?: is)? (?:not (?:allowed|enabled|permitted|supported)|disabled)"
    r"(?: .+)?"
)


def _no_way_to_user(content: Content, _: Asked) -> bool:
    return content.says(*_NO_WAY_TO_USER) or content.matches(_NO_SIGNUP)


def _provider_unset(content: Content, _: Asked) -> bool:
    return content.says("external provider configuration error")


def _has_options(_: Content, asked: Asked) -> bool:
    return bool(asked.options)


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of answer: where it comes from, how it is known, what it means.

    For what an operator must mend, the words say how.
    """

    endpoints: Collection[Endpoint]
    statuses: Collection[int]
    question: _Question
    meaning: Meaning
    words: str

    def fits(self, content: Content, asked: Asked) -> bool:
        """Whether the answer is of this kind."""
        is_there = asked.endpoint in self.endpoints and asked.answer.status in self.statuses
        return is_there and self.question(content, asked)


_E: Final = Endpoint
_M: Final = Meaning
_USER_CALLS: Final = (_E.LIST_SESSIONS, _E.DELETE_SESSIONS, _E.DELETE_FRONTEND_SESSIONS)
_SESSION_CALLS: Final = (_E.AUTHENTICATE, _E.LOGOUT, *_USER_CALLS)
# With our client token; refused for that, they have sent and used up nothing.
REPEATED_WITH_FRESH_TOKEN: Final = (
    _E.OTP_SEND,
    _E.LINK_SEND,
    _E.SOCIAL_START,
    _E.TOTP_TRANSACTION_START,
)
_LEADS_BACK: Final = (_E.LINK_SEND, _E.SOCIAL_START)
_FIRST_STEPS: Final = (*REPEATED_WITH_FRESH_TOKEN, _E.WEBAUTHN_START)
# What uses something up: the user's proof, the code of a social provider, a refresh token.
PROOFS: Final = (
    _E.PASSWORD_PROOF,
    _E.OTP_PROOF,
    _E.LINK_PROOF,
    _E.TOTP_PROOF,
    _E.TOTP_TRANSACTION_PROOF,
    _E.SOCIAL_VERIFY,
    _E.SOCIAL_PROOF,
    _E.WEBAUTHN_PROOF,
    _E.BIOMETRICS_PROOF,
    _E.REFRESH,
)
_LOGINS: Final = (*_FIRST_STEPS, *PROOFS)
_AUTHENTICATES: Final = tuple(it for it in PROOFS if it not in {_E.SOCIAL_VERIFY, _E.REFRESH})
_BRINGS: Final = tuple(wording.BROUGHT)
_TOKEN_ALONE: Final = (*REPEATED_WITH_FRESH_TOKEN, *_BRINGS)  # a 401 has looked at
_JOINABLE: Final = (_E.AUTHENTICATE, *(it for it in PROOFS if it is not _E.SOCIAL_VERIFY))
_AUTHORISED: Final = (_E.TOKEN, *_SESSION_CALLS)
_EVERYWHERE: Final = tuple(Endpoint)
_ANY_STATUS: Final = range(1000)
_3XX: Final = range(300, 400)
_4XX: Final = range(400, 500)
_5XX: Final = range(500, 600)
_NO_SUCH_PATH: Final = (404, 405, 410)
_WRONG_CLIENT: Final = "wrong client id, secret or key: check them (mosaic-sessions apps set)"
_NOT_LET_IN: Final = "client token not accepted: see that the client is enabled at Mosaic"
_NO_RIGHT: Final = "the client lacks the right: give it the role at Mosaic"
_ABOUT_USER: Final = "about the user: see it at Mosaic"
_PROVIDER: Final = "Mosaic cannot send: set its gateway for mail or text messages up there"
_UNKNOWN_CLIENT: Final = "the client is unknown there: check its client id and the address"
_WRONG_ADDRESS: Final = "no such path: check the address of the app, or of the settings"
_NO_WORD: Final = (
    "without a word of the session: the path, the app or the client is unknown there. Check the"
    " app's base URL and client id"
)
_ELSEWHERE: Final = "redirects are not followed: set the address it leads to"
_REDIRECT: Final = "redirect URI not allowed"
_NOT_ACCEPTED: Final = "not accepted"
_UNKNOWN: Final = "not in the protocol: ask Mosaic's support what it means"

# The first row that fits counts.
TABLE: Final = (
    # What was asked for.
    Row((_E.TOKEN, _E.JWKS), (200,), _is_json, _M.DONE, "as asked"),
    Row((_E.TOKEN, _E.AUTHENTICATE, *_LOGINS), (200, 201), _is_json, _M.DONE, "as asked"),
    Row((_E.LOGOUT,), (204,), _anything, _M.DONE, "the session is ended"),
    Row((_E.LOGOUT,), (200,), _tells_no_error, _M.DONE, "the session is ended"),
    Row((_E.LOGOUT,), (400, 404), _session_not_found, _M.DONE, "it was over already"),
    Row((_E.LIST_SESSIONS,), (200,), _is_list, _M.DONE, "as asked"),
    Row((_E.DELETE_SESSIONS,), (204,), _anything, _M.DONE, "the sessions are ended"),
    Row((_E.DELETE_FRONTEND_SESSIONS,), (200,), _counts_deleted, _M.DONE, "the sessions are ended"),
    Row(_JOINABLE, (400, 404), _session_not_found, _M.SESSION_GONE, "session not found"),
    # It passes.
    Row((_E.JWKS,), (429,), _anything, _M.UNAVAILABLE, "no key set"),
    Row(_EVERYWHERE, (429,), _anything, _M.RATE_LIMITED, "rate limited"),
    # Another server than Mosaic's answered: at a wrong address, or on the way there.
    Row(_EVERYWHERE, _3XX, _anything, _M.ELSEWHERE, _ELSEWHERE),
    Row((_E.LOGOUT,), (404,), _is_no_json, _M.CONTRACT_BROKEN, _NO_WORD),
    Row(_EVERYWHERE, _NO_SUCH_PATH, _is_no_json, _M.ELSEWHERE, _WRONG_ADDRESS),
    Row((_E.TOKEN,), (401,), _is_no_json, _M.CLIENT_REFUSED, _WRONG_CLIENT),
    Row((*_SESSION_CALLS, *_LOGINS), (401,), _is_no_json, _M.CLIENT_REFUSED, _NOT_LET_IN),
    Row(_EVERYWHERE, (200, *_4XX, *_5XX), _is_no_json, _M.PAGE, "a page, not an answer"),
    # From here on it is JSON.
    Row(_EVERYWHERE, (408, 421, 425, *_5XX), _anything, _M.UNAVAILABLE, "temporary failure"),
    Row((*_SESSION_CALLS, *_LOGINS), _4XX, _about_user, _M.USER_REFUSED, _ABOUT_USER),
    Row(_FIRST_STEPS, _4XX, _no_way_to_user, _M.USER_REFUSED, _ABOUT_USER),
    Row(_EVERYWHERE, (400, 404), _unknown_client, _M.CLIENT_REFUSED, _UNKNOWN_CLIENT),
    Row((_E.REFRESH,), (400,), _invalid_client, _M.CLIENT_REFUSED, _WRONG_CLIENT),
    # Our form is always the same: what differs between apps is the client.
    Row((_E.TOKEN,), (400, 401, 403), _anything, _M.CLIENT_REFUSED, _WRONG_CLIENT),
    Row(_SESSION_CALLS, (401,), _anything, _M.CLIENT_REFUSED, _NOT_LET_IN),
    # A wrong proof is a 400 or 401, too: it must not cost the client its token.
    Row(_LOGINS, (401,), wording.token_not_accepted, _M.CLIENT_REFUSED, _NOT_LET_IN),
    Row(_BRINGS, (401,), wording.names_what_it_brought, _M.PROOF_REFUSED, _NOT_ACCEPTED),
    Row(_TOKEN_ALONE, (401,), _anything, _M.CLIENT_REFUSED, _NOT_LET_IN),
    Row(_FIRST_STEPS, (400,), _provider_unset, _M.CONTRACT_BROKEN, _PROVIDER),
    Row(_LEADS_BACK, (400, 422), wording.names_redirect, _M.REDIRECT_REFUSED, _REDIRECT),
    Row(_LOGINS, (400, 422), wording.is_about_options, _M.OPTIONS_REFUSED, "options refused"),
    Row(PROOFS, (400, 422), wording.is_about_form, _M.STEP_REFUSED, "refused for its form"),
    Row(PROOFS, (400, 401, 422), _anything, _M.PROOF_REFUSED, _NOT_ACCEPTED),
    Row(_FIRST_STEPS, (400, 401, 422), _anything, _M.STEP_REFUSED, "refused"),
    Row(_FIRST_STEPS, (403,), wording.is_of_user, _M.USER_REFUSED, _ABOUT_USER),
    Row(_AUTHENTICATES, (403, 423), wording.is_of_proof, _M.PROOF_REFUSED, _NOT_ACCEPTED),
    Row((*_SESSION_CALLS, *_LOGINS), (403,), _anything, _M.CLIENT_REFUSED, _NO_RIGHT),
    Row((_E.AUTHENTICATE,), (400, 422), _has_options, _M.OPTIONS_REFUSED, "options refused"),
    Row((_E.LOGOUT,), (400, 422), _anything, _M.LOGOUT_REFUSED, _UNKNOWN),
    Row((_E.LOGOUT,), (404,), _anything, _M.CONTRACT_BROKEN, _NO_WORD),
    Row(_USER_CALLS, _NO_SUCH_PATH, _anything, _M.CONTRACT_BROKEN, _WRONG_ADDRESS),
    Row(_EVERYWHERE, _ANY_STATUS, _anything, _M.CONTRACT_BROKEN, _UNKNOWN),
)
