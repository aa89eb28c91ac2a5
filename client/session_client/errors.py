"""What can go wrong between an app and the worker.

::

    SessionClientError
    ├── InvalidAppKeyError   the configured key is none: fix the app's settings
    ├── InvalidArgumentError the call cannot be a request: fix the calling code
    ├── BrokerUnavailable    the broker does not take requests or give answers: try again
    ├── NotAnswered          sent, but no answer in time: the outcome is unknown
    ├── NotAcknowledged      a logout (or registration) is not committed, as far as we know
    ├── SealBroken           an answer that does not open, or is about something else
    └── InvalidNotice        a notice that is not from the worker, or not for this app

A refusal by the worker is no exception: it is an answer with a verdict. Only `logout`, which
promises that returning means done, turns one into `NotAcknowledged`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from session_client.contract import Reason, Verdict

if TYPE_CHECKING:
    from session_client.answers import Answer

# Refusals that only say that the request is too old, or that a clock was wrong.
SEND_ANEW: Final = frozenset({Reason.DEADLINE_PASSED.value, Reason.CLOCK_SKEW.value})


class SessionClientError(Exception):
    """The request did not get an answer that can be used."""


class InvalidAppKeyError(SessionClientError):
    """The app key is none. The message tells the form and never quotes the key."""

    def __str__(self) -> str:
        return "the app key must read <kid>.<43 base64url characters>, as `apps add` printed it"


class InvalidArgumentError(SessionClientError, ValueError):
    """An argument has a type, a form or a combination that no request can have."""


class WrongFieldsError(ValueError):
    """Fields of a login step that are missing, superfluous, too long, or of another type.

    ``names`` are the table's own, or "unknown field"; nothing is quoted.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class BrokerUnavailable(SessionClientError):  # noqa: N818 - reads as the state it reports
    """The broker cannot be reached, or does not answer in time.

    The request may have arrived all the same: a lost confirmation looks like this too. The message
    ends with the type of the error behind it, and quotes neither its text nor the URL:

    - ``gaierror``: no such host; ``ConnectionRefusedError``: nobody listens on that port;
    - ``AuthenticationError``: wrong user or password; ``NoPermissionError``: a right is missing in
      this user's Redis ACL (``docs/operations.md`` has what an app needs);
    - ``ResponseError``: Redis answers no, for instance to a database number it does not have;
      ``OutOfMemoryError``, ``ReadOnlyError``: it is full, or a replica;
    - ``SSLCertVerificationError``: its certificate is of no authority known here;
    - ``ModuleNotFoundError``, ``ImportError``: Celery needs a library for this kind of broker;
    - ``TimeoutError``, or "in time" instead of a type: it does not answer. A ``rediss://`` URL to a
      Redis without TLS looks like this too.
    """


class NotAnswered(SessionClientError):  # noqa: N818
    """No answer arrived in time. The worker may still do what was asked."""


class NotAcknowledged(SessionClientError):  # noqa: N818
    """The worker has not confirmed that it committed the request.

    Treat the user as *not yet* logged out elsewhere, and look at ``is_final``. When it is False,
    repeat the call with this ``request_id``: repeating is harmless. ``why`` says in words what
    happened; ``answer`` is the worker's last word, None if it said nothing.
    """

    def __init__(self, request_id: str, why: str, answer: Answer | None = None) -> None:
        super().__init__(request_id, why, answer)  # all of them, so that it can be pickled
        self.request_id = request_id
        self.why = why
        self.answer = answer

    @property
    def is_final(self) -> bool:
        """Whether the worker refused, so that repeating cannot help until the cause is put right.

        Such as ``no_session``, ``invalid_payload``, ``not_permitted`` or ``wrong_key``: see
        ``answer.reason`` and ``answer.detail``.
        """
        return (
            self.answer is not None
            and self.answer.verdict is not Verdict.TEMPORARILY_UNAVAILABLE
            and self.answer.reason not in SEND_ANEW
        )

    def __str__(self) -> str:
        if self.is_final:
            return f"refused ({self.why}); repeating request {self.request_id} cannot help"
        return f"not acknowledged ({self.why}); repeat it with request_id={self.request_id}"


class SealBroken(SessionClientError):  # noqa: N818
    """A sealed text that no known key opens, or that is about something else."""


class InvalidNotice(SessionClientError):  # noqa: N818
    """A notice that is not what it claims to be. Answer 400, and do not act on it."""
