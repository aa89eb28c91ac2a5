"""Whom and what an answer speaks of, where its words are on no page of Mosaic's.

Each error stands on some page with a few words, and servers and gateways have others for it. What
is asked here decides whether the app's client token is given up, whether the attempt counts as a
wrong guess, and whether an operator is called.
Before and after touching it: tests/unit/test_mosaic_responses.py, which puts many wordings to it.
"""

from __future__ import annotations

import re
from typing import Final

from worker.mosaic.asked import Asked, Endpoint
from worker.mosaic.response_content import HAS_BECOME, Content, normalised

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
BROUGHT: Final = {
    Endpoint.REFRESH: re.compile(r"\b(?:invalid grant|refresh ?token)\b"),
    Endpoint.SOCIAL_VERIFY: re.compile(r"\b(?:invalid grant|code|state)\b"),
}


def names_what_it_brought(content: Content, asked: Asked) -> bool:
    """Whether it is about the refresh token, or about the provider's code, that the call brings."""
    return content.mentions(BROUGHT[asked.endpoint])


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
_TAKES_TOKEN: Final = (
    Endpoint.OTP_PROOF,
    Endpoint.LINK_PROOF,
    Endpoint.TOTP_PROOF,
    Endpoint.TOTP_TRANSACTION_PROOF,
)
_OWN_TOKEN: Final = re.compile(r"(?<!access )(?<!bearer )(?<!client )\btoken\b")


def token_not_accepted(content: Content, asked: Asked) -> bool:
    """Whether a 401 is about our client token, and not about what the user proves."""
    if content.mentions(_CLIENT_TOKEN_FIRST):
        return True
    if _names_what_is_proved(content, asked):
        return False
    is_code = content.has_code("unauthorized", "invalid token")
    is_said = content.matches(_CLIENT_TOKEN if asked.endpoint in _TAKES_TOKEN else _ANY_TOKEN)
    return is_code or is_said or content.mentions(_CLIENT_TOKEN_IS_MEANT)


def _names_what_is_proved(content: Content, asked: Asked) -> bool:
    if asked.endpoint in BROUGHT:
        return names_what_it_brought(content, asked)
    is_own = asked.endpoint in _TAKES_TOKEN and any(map(_OWN_TOKEN.search, content.messages))
    return is_own or _speaks_of_user(content) or content.mentions(_WRONG_PROOF_IS_MEANT)


def _speaks_of_user(content: Content) -> bool:
    if content.mentions(_USERS_STATE):
        return True
    return content.mentions(_USER_FIRST) and not content.mentions(_RIGHT_IS_MEANT)


def is_of_user(content: Content, _: Asked) -> bool:
    """Whether a 403 for a first step is a verdict on the user, and not on our client."""
    # In a first step no proof of the user's can be wrong: what is no state of theirs is our
    # client's, or a missing right would be answered with a made-up code.
    if content.mentions(_USERS_STATE):
        return True
    return _speaks_of_user(content) and content.mentions(_OF_A_STATE)


def is_of_proof(content: Content, asked: Asked) -> bool:
    """Whether a 403 for a proof is a verdict on it or its user, and not on our client."""
    if _speaks_of_user(content) or content.mentions(_PROOF_IS_WRONG):
        return True
    if content.mentions(_CLIENT_IS_MEANT) or token_not_accepted(content, asked):
        return False
    return content.mentions(_PROOF_IS_MEANT) or asked.is_token_proven


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


def names_redirect(content: Content, _: Asked) -> bool:
    """Whether it is about where Mosaic is to lead the browser back to."""
    return content.mentions(_REDIRECT)


def is_about_form(content: Content, _: Asked) -> bool:
    """Whether it is about how the request is written, and no verdict on a proof."""
    fields = content.value if isinstance(content.value, dict) else {}
    is_list = isinstance(fields.get("message"), list) and not content.mentions(_WRONG_PROOF)
    is_named = any(content.mentions(it) for it in (_REDIRECT, *_OPTIONS.values()))
    return is_list or is_named or content.says(*_FORM)


def is_about_options(content: Content, asked: Asked) -> bool:
    """Whether an option that was sent is named; or no field is, and one was the app's own wish."""
    if not is_about_form(content, asked):
        return False
    sent = (pattern for option, pattern in _OPTIONS.items() if option in asked.options)
    if any(map(content.mentions, sent)):
        return True
    return not _WISHES.keys().isdisjoint(asked.options) and not _names_own_field(content, asked)


def _names_own_field(content: Content, asked: Asked) -> bool:
    fields = (normalised(name) for name in asked.sent if name not in asked.options)
    return any(content.mentions(re.compile(rf"\b{re.escape(field)}\b")) for field in fields)
