"""How an answer of Mosaic is read: looked up in the table, counted, and returned or raised."""

from __future__ import annotations

from typing import Any, Final

from session_client.contract import Reason
from worker import metrics
from worker.errors import (
    ClientRefused,
    InvalidRequest,
    LogoutRefused,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicUnavailable,
    PageInstead,
    ProofRefused,
    SessionGone,
    SessionWorkerError,
    TryLater,
    UserRefused,
)
from worker.http_client import HttpAnswer
from worker.metrics import CallOutcome
from worker.mosaic.asked import Asked, Endpoint
from worker.mosaic.response_content import Content
from worker.mosaic.responses import TABLE, Meaning

_OUTCOMES: Final = {
    Meaning.DONE: CallOutcome.OK,
    Meaning.SESSION_GONE: CallOutcome.SESSION_GONE,
    Meaning.LOGOUT_REFUSED: CallOutcome.CONTRACT_BROKEN,
    Meaning.USER_REFUSED: CallOutcome.USER_REFUSED,
    Meaning.PROOF_REFUSED: CallOutcome.PROOF_REFUSED,
    Meaning.STEP_REFUSED: CallOutcome.PROOF_REFUSED,
    Meaning.OPTIONS_REFUSED: CallOutcome.OPTIONS_REFUSED,
    Meaning.REDIRECT_REFUSED: CallOutcome.OPTIONS_REFUSED,
    Meaning.CLIENT_REFUSED: CallOutcome.CLIENT_REFUSED,
    Meaning.UNAVAILABLE: CallOutcome.UNAVAILABLE,
    Meaning.PAGE: CallOutcome.UNAVAILABLE,
    Meaning.RATE_LIMITED: CallOutcome.RATE_LIMITED,
    Meaning.ELSEWHERE: CallOutcome.CONTRACT_BROKEN,
    Meaning.CONTRACT_BROKEN: CallOutcome.CONTRACT_BROKEN,
}


class Reading:
    """What an answer means, once it has been looked up and counted."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._content = Content.of(asked.answer)
        self._row = next(row for row in TABLE if row.fits(self._content, asked))
        metrics.mosaic_call(asked.endpoint, _OUTCOMES[self._row.meaning], asked.answer.seconds)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._asked.answer.status

    @property
    def blames_client_token(self) -> bool:
        """Whether a fresh client token may help: a role just granted is in new ones only."""
        is_about_token = self.status in _TOKEN_NOT_ACCEPTED
        return is_about_token and self._row.meaning is Meaning.CLIENT_REFUSED

    @property
    def proves_client_token(self) -> bool:
        """Whether Mosaic has served the call, or refused it for another reason.

        A 401 proves none, whatever it says: read wrongly, it would keep a dead token in use.
        """
        return self._row.meaning in _TOKEN_ACCEPTED and self.status != _NOT_LET_IN

    def value(self) -> Any:
        """Return the JSON of a success (None without a body), or raise what the table says."""
        if self._row.meaning is Meaning.DONE:
            return self._content.value
        raise self._error()

    def _error(self) -> SessionWorkerError:
        asked, row = self._asked, self._row
        # Mosaic's own sentences stay out: they may quote what we sent.
        slugs = ", ".join(self._content.slugs(asked.sent))
        text = f"{asked.endpoint} at {asked.url}: {asked.answer.status} {row.words}"
        text = f"{text} ({slugs})" if slugs else text
        match row.meaning:
            case Meaning.USER_REFUSED:
                return UserRefused(text, self._content.about_user() or Reason.REFUSED_BY_IDP)
            case Meaning.PROOF_REFUSED:
                return ProofRefused(text, Reason.INVALID_CREDENTIALS)
            case Meaning.STEP_REFUSED:
                return ProofRefused(text, Reason.REFUSED_BY_IDP)
            case Meaning.OPTIONS_REFUSED | Meaning.REDIRECT_REFUSED as meaning:
                is_redirect = meaning is Meaning.REDIRECT_REFUSED
                blamed = ("redirect_uri",) if is_redirect else asked.options
                return InvalidRequest(Reason.OPTIONS_REFUSED, ", ".join(blamed))
            case Meaning.RATE_LIMITED:
                return MosaicRateLimited(text, retry_after=asked.answer.retry_after)
            case meaning:
                error = _ERRORS[meaning](text)
                error.was_sent = meaning is not Meaning.ELSEWHERE
        if isinstance(error, TryLater) and asked.answer.retry_after:  # nought names no time
            error.retry_after = asked.answer.retry_after
        return error


_ERRORS: Final[dict[Meaning, type[SessionWorkerError]]] = {
    Meaning.SESSION_GONE: SessionGone,
    Meaning.LOGOUT_REFUSED: LogoutRefused,
    Meaning.CLIENT_REFUSED: ClientRefused,
    Meaning.UNAVAILABLE: MosaicUnavailable,
    Meaning.PAGE: PageInstead,
    Meaning.ELSEWHERE: MosaicContractBroken,
    Meaning.CONTRACT_BROKEN: MosaicContractBroken,
}
_NOT_LET_IN: Final = 401
_TOKEN_NOT_ACCEPTED: Final = frozenset({_NOT_LET_IN, 403})
_TOKEN_ACCEPTED: Final = frozenset(
    {
        Meaning.DONE,
        Meaning.SESSION_GONE,
        Meaning.LOGOUT_REFUSED,
        Meaning.USER_REFUSED,
        Meaning.PROOF_REFUSED,
        Meaning.STEP_REFUSED,
        Meaning.OPTIONS_REFUSED,
        Meaning.REDIRECT_REFUSED,
    }
)


def accept(endpoint: Endpoint, url: str, answer: HttpAnswer) -> Any:
    """Return the JSON of a success (None without a body), or raise what the table says.

    *url* is where it was asked: operators must see which address to put right.
    """
    return Reading(Asked(endpoint, url, answer)).value()
