"""What each answer of Mosaic means, as one table.

Success is recognised and never assumed: a logout counts as done by what the answer itself says, or
a gateway's 404 for a wrong base URL would confirm logouts that never happened. A stored session
ends only on a 400 or 404 that says "session not found": any other is about our request, and ending
sessions for it would log people out because of our bug. Source: "Errors" in the protocol sheet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any, Final

from worker.http_client import HttpAnswer
from worker.mosaic.response_content import HAS_BECOME, Content, normalised, tells_no_error


class Endpoint(StrEnum):
    """The calls the door makes; of those about one session, the path under ``/cis/v1/auth``."""

    TOKEN = "client token"  # noqa: S105 - a name
    JWKS = "jwks"
    AUTHENTICATE = "session/authenticate"
    LOGOUT = "session/logout"
    LIST_SESSIONS = "users/sessions"
    DELETE_SESSIONS = "users/sessions/delete"
    DELETE_FRONTEND_SESSIONS = "frontend_sessions/delete"
    # First steps of active logins.
    OTP_SEND = "otp/send"
    LINK_SEND = "link/email/send"
    SOCIAL_START = "social/start"  # with the provider in between, in the path
    SOCIAL_VERIFY = "social/verify"
    WEBAUTHN_START = "webauthn/authenticate/start"
    # What completes them.
    PASSWORD_PROOF = "password/authenticate"  # noqa: S105 - a path
    OTP_PROOF = "otp/authenticate"
    LINK_PROOF = "link/email/authenticate"
    TOTP_PROOF = "totp/authenticate"
    SOCIAL_PROOF = "social/authenticate"
    WEBAUTHN_PROOF = "webauthn/authenticate"
    BIOMETRICS_PROOF = "mobile-biometrics/authenticate"
    REFRESH = "token/refresh"


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


@dataclass(frozen=True, slots=True)
class Asked:
    """One call and its answer. *options* names the app's own optional fields that were sent.

    *is_token_proven* says whether Mosaic has accepted the client token before, *sent* what a call
    that is not repeated has sent.
    """

    endpoint: Endpoint
    url: str
    answer: HttpAnswer
    options: tuple[str, ...] = ()
    is_token_proven: bool = False
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)


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


_IS_OVER: Final = "(?:invalid|expired|revoked|invalid or expired)"
_IS_SO: Final = "(?:is |was |has been |has )?"
_CLIENT_TOKEN: Final = re.compile(
    rf"(?:un|not )authori[sz]ed|jwt .+|{_IS_OVER} (?:access|bearer|client) token"
    rf"|(?:the )?(?:access ?|bearer |client )token {_IS_SO}{_IS_OVER}"
)
_ANY_TOKEN: Final = re.compile(
    rf"{_CLIENT_TOKEN.pattern}|{_IS_OVER} token|(?:the )?token {_IS_SO}{_IS_OVER}"
)
# What these calls bring is no login's proof: a 401 that does not name it has looked at our client
# token alone. Believed of a refresh token, it would bar that one for ever.
_BROUGHT: Final = {
    Endpoint.REFRESH: re.compile(r"\b(?:invalid grant|refresh ?token)\b"),
    Endpoint.SOCIAL_VERIFY: re.compile(r"\b(?:invalid grant|code|state)\b"),
}


def _names_what_it_brought(content: Content, asked: Asked) -> bool:
    return content.mentions(_BROUGHT[asked.endpoint])


# A 403 may be about the user or about our client, in words that are on no page. Taken for the
# client's, it costs the app its token: who locks one account out could do that to all. Taken for
# the user's, no operator hears that the client lacks a right, and right proofs count as guesses.
# What decides is whom it speaks of first; but to a gateway our client is a user, too, so a word of
# rights is the client's, and only a user's state or a wrong proof comes before it.
_CLIENT: Final = r"(?:client|(?<!authenticator )app|application)"
_NO_CLIENT_FIRST: Final = rf"\A(?!(?:the |this )?{_CLIENT}\b)"
_TO_SIGN_IN: Final = r"(?:log|sign) ?in\b"
_STATE: Final = (
    r"(?:banned|blocked|deactivated|deleted|disabled|expired|inactive|locked|lockout|suspended"
    r"|unverified|not (?:activated|active|confirmed|enabled|enrolled|found|registered|verified))\b"
)
_PROOF: Final = (
    r"(?:authenticator|code|(?<!client )credentials?|otp|passcode|passkey|password|signature|totp)"
    r"\b"
)
_WRONG: Final = r"(?:expired|incorrect|invalid|wrong)\b"
_USER_FIRST: Final = re.compile(r"\A(?:the |this |your )?(?:user|account)\b")
_USERS_STATE: Final = re.compile(
    rf"{_NO_CLIENT_FIRST}.*\b(?:locked|lockout|too many|(?:user|account){HAS_BECOME} {_STATE})"
)
_OF_A_STATE: Final = re.compile(rf"\b(?:{_STATE}|{_TO_SIGN_IN})")
_RIGHT_IS_MEANT: Final = re.compile(
    rf"\b(?:access (?:is )?denied|insufficient|(?:un|not )(?:authori[sz]ed|permitted)(?! to"
    rf" {_TO_SIGN_IN})|permissions?|privileges?|rights?|roles?|scopes?)\b"
)
_CLIENT_IS_MEANT: Final = re.compile(rf"\b(?:{_CLIENT}|forbidden)\b|{_RIGHT_IS_MEANT.pattern}")
_PROOF_IS_MEANT: Final = re.compile(rf"\b(?:attempts?\b|blocked\b|suspended\b|{_PROOF})")
_PROOF_IS_WRONG: Final = re.compile(
    rf"{_NO_CLIENT_FIRST}.*\b(?:{_WRONG} {_PROOF}|{_PROOF}{HAS_BECOME} {_WRONG})"
)
# A 401 for a proof is about the proof, or about our client token. Servers that write the name of
# the status write it for both. Taken for a wrong proof, a revoked client token refuses every user
# for the rest of its hour, and counts their right passwords as guesses.
_CLIENTS_OWN: Final = "(?:access ?|bearer |client )token"
_CLIENT_TOKEN_FIRST: Final = re.compile(rf"\A(?:the |your )?(?:jwt|{_CLIENTS_OWN})\b")
_CLIENT_TOKEN_IS_MEANT: Final = re.compile(rf"\b{_CLIENTS_OWN}\b")
_WRONG_PROOF_IS_MEANT: Final = re.compile(
    rf"{_PROOF_IS_MEANT.pattern}|\b(?:(?<!client )authentication fail(?:ed|ure)|incorrect|link"
    r"|login|(?:no such|unknown) (?:account|user)|pin|transaction|user ?name|wrong)\b"
)
# Their own proof may be called a token (the field of an authenticator app's code is `token`): a
# guesser would cost the app its client token, and get each guess back. No code counts here: what
# stands there beside a message is a server's, for both kinds of token.
_TAKES_TOKEN: Final = (Endpoint.OTP_PROOF, Endpoint.LINK_PROOF, Endpoint.TOTP_PROOF)
_OWN_TOKEN: Final = re.compile(r"(?<!access )(?<!bearer )(?<!client )\btoken\b")


def _token_not_accepted(content: Content, asked: Asked) -> bool:
    if content.mentions(_CLIENT_TOKEN_FIRST):
        return True
    if _names_what_is_proved(content, asked):
        return False
    is_code = content.has_code("unauthorized", "invalid token")
    is_said = content.matches(_CLIENT_TOKEN if asked.endpoint in _TAKES_TOKEN else _ANY_TOKEN)
    return is_code or is_said or content.mentions(_CLIENT_TOKEN_IS_MEANT)


def _names_what_is_proved(content: Content, asked: Asked) -> bool:
    if asked.endpoint in _BROUGHT:
        return _names_what_it_brought(content, asked)
    is_own = asked.endpoint in _TAKES_TOKEN and any(map(_OWN_TOKEN.search, content.messages))
    return is_own or _speaks_of_user(content) or content.mentions(_WRONG_PROOF_IS_MEANT)


def _speaks_of_user(content: Content) -> bool:
    if content.mentions(_USERS_STATE):
        return True
    return content.mentions(_USER_FIRST) and not content.mentions(_RIGHT_IS_MEANT)


def _is_of_user(content: Content, _: Asked) -> bool:
    # In a first step no proof of the user's can be wrong: what is no state of theirs is our
    # client's, or a missing right would be answered with a made-up code.
    if content.mentions(_USERS_STATE):
        return True
    return _speaks_of_user(content) and content.mentions(_OF_A_STATE)


def _is_of_proof(content: Content, asked: Asked) -> bool:
    if _speaks_of_user(content) or content.mentions(_PROOF_IS_WRONG):
        return True
    if content.mentions(_CLIENT_IS_MEANT) or _token_not_accepted(content, asked):
        return False
    return content.mentions(_PROOF_IS_MEANT) or asked.is_token_proven


# What keeps Mosaic from sending anything, or from asking for a passkey.
_NO_WAY_TO_USER: Final = (
    "user email address missing",
    "user phone number missing",
    "auth login preferences missing",
    "no credentials registered",
    "public signup not allowed",
)


def _no_way_to_user(content: Content, _: Asked) -> bool:
    return content.says(*_NO_WAY_TO_USER)


def _provider_unset(content: Content, _: Asked) -> bool:
    return content.says("external provider configuration error")


# Of a request that is refused for its form, or for what the app wants of its tokens.
_FORM: Final = ("system invalid input", "invalid request")
_REDIRECT: Final = re.compile(r"\bredirect ur[il]s?\b")
_WISHES: Final = {
    "resource": re.compile(r"\bresources?\b"),
    "claims": re.compile(r"\bclaims?\b"),
    "org_id": re.compile(r"\b(?:org id|organi[sz]ation)\b"),
}
# Said as a list it would be a complaint about the form, which counts as no failed guess.
_WRONG_PROOF: Final = re.compile(r"\b(?:credentials?|expired|incorrect|wrong)\b")
# What apps pass on with each request, and no user or developer has chosen.
_OF_BROWSER: Final = {
    "client_attributes": re.compile(r"\b(?:client attributes|user agent|ip address)\b"),
    "device_id": re.compile(r"\bdevice id\b"),
}
_OPTIONS: Final = _WISHES | _OF_BROWSER


def _names_redirect(content: Content, _: Asked) -> bool:
    return content.mentions(_REDIRECT)


def _is_about_form(content: Content, _: Asked) -> bool:
    fields = content.value if isinstance(content.value, dict) else {}
    is_list = isinstance(fields.get("message"), list) and not content.mentions(_WRONG_PROOF)
    is_named = any(content.mentions(it) for it in (_REDIRECT, *_OPTIONS.values()))
    return is_list or is_named or content.says(*_FORM)


def _is_about_options(content: Content, asked: Asked) -> bool:
    """Whether an option that was sent is named; or no field is, and one was the app's own wish."""
    if not _is_about_form(content, asked):
        return False
    sent = (pattern for option, pattern in _OPTIONS.items() if option in asked.options)
    if any(map(content.mentions, sent)):
        return True
    return not _WISHES.keys().isdisjoint(asked.options) and not _names_own_field(content, asked)


def _names_own_field(content: Content, asked: Asked) -> bool:
    fields = (normalised(name) for name in asked.sent if name not in asked.options)
    return any(content.mentions(re.compile(rf"\b{re.escape(field)}\b")) for field in fields)


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
REPEATED_WITH_FRESH_TOKEN: Final = (_E.OTP_SEND, _E.LINK_SEND, _E.SOCIAL_START)
_LEADS_BACK: Final = (_E.LINK_SEND, _E.SOCIAL_START)
_FIRST_STEPS: Final = (*REPEATED_WITH_FRESH_TOKEN, _E.WEBAUTHN_START)
# What uses something up: the user's proof, the code of a social provider, a refresh token.
PROOFS: Final = (
    _E.PASSWORD_PROOF,
    _E.OTP_PROOF,
    _E.LINK_PROOF,
    _E.TOTP_PROOF,
    _E.SOCIAL_VERIFY,
    _E.SOCIAL_PROOF,
    _E.WEBAUTHN_PROOF,
    _E.BIOMETRICS_PROOF,
    _E.REFRESH,
)
_LOGINS: Final = (*_FIRST_STEPS, *PROOFS)
_AUTHENTICATES: Final = tuple(it for it in PROOFS if it not in {_E.SOCIAL_VERIFY, _E.REFRESH})
_TOKEN_ALONE: Final = (*REPEATED_WITH_FRESH_TOKEN, *_BROUGHT)  # a 401 has looked at
_JOINABLE: Final = (_E.AUTHENTICATE, *(it for it in PROOFS if it is not _E.SOCIAL_VERIFY))
_AUTHORISED: Final = (_E.TOKEN, *_SESSION_CALLS)
_EVERYWHERE: Final = tuple(Endpoint)
_ANY_STATUS: Final = range(1000)
_3XX: Final = range(300, 400)
_4XX: Final = range(400, 500)
_5XX: Final = range(500, 600)
_NO_SUCH_PATH: Final = (404, 405, 410)
_WRONG_CLIENT: Final = "wrong client id or secret: check both (mosaic-sessions apps set)"
_NOT_LET_IN: Final = "client token not accepted: is the client enabled at Mosaic?"
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
    Row(_LOGINS, (401,), _token_not_accepted, _M.CLIENT_REFUSED, _NOT_LET_IN),
    Row(tuple(_BROUGHT), (401,), _names_what_it_brought, _M.PROOF_REFUSED, "not accepted"),
    Row(_TOKEN_ALONE, (401,), _anything, _M.CLIENT_REFUSED, _NOT_LET_IN),
    Row(_FIRST_STEPS, (400,), _provider_unset, _M.CONTRACT_BROKEN, _PROVIDER),
    Row(_LEADS_BACK, (400, 422), _names_redirect, _M.REDIRECT_REFUSED, "redirect URI not allowed"),
    Row(_LOGINS, (400, 422), _is_about_options, _M.OPTIONS_REFUSED, "options refused"),
    Row(PROOFS, (400, 422), _is_about_form, _M.STEP_REFUSED, "refused for its form"),
    Row(PROOFS, (400, 401, 422), _anything, _M.PROOF_REFUSED, "not accepted"),
    Row(_FIRST_STEPS, (400, 401, 422), _anything, _M.STEP_REFUSED, "refused"),
    Row(_FIRST_STEPS, (403,), _is_of_user, _M.USER_REFUSED, _ABOUT_USER),
    Row(_AUTHENTICATES, (403, 423), _is_of_proof, _M.PROOF_REFUSED, "not accepted"),
    Row((*_SESSION_CALLS, *_LOGINS), (403,), _anything, _M.CLIENT_REFUSED, _NO_RIGHT),
    Row((_E.AUTHENTICATE,), (400, 422), _has_options, _M.OPTIONS_REFUSED, "options refused"),
    Row((_E.LOGOUT,), (400, 422), _anything, _M.LOGOUT_REFUSED, _UNKNOWN),
    Row((_E.LOGOUT,), (404,), _anything, _M.CONTRACT_BROKEN, _NO_WORD),
    Row(_USER_CALLS, _NO_SUCH_PATH, _anything, _M.CONTRACT_BROKEN, _WRONG_ADDRESS),
    Row(_EVERYWHERE, _ANY_STATUS, _anything, _M.CONTRACT_BROKEN, _UNKNOWN),
)
