"""What is wrong with machines or settings, and never with a person: those are values.

::

    SessionClientError
    ├── ConfigurationError   the call or a setting cannot be right: fix the code or the settings
    ├── InvalidRequest       the worker finds it can never be served: fix the caller
    ├── Unauthorized         the worker does not know this app, or it may not ask this
    ├── SealBroken           a sealed text that does not open, or is about something else
    ├── InvalidNotice        a notice that is not from the worker, or not for this app
    ├── NotAcknowledged      a logout (or confirmation) is not committed, as far as we know
    └── Unavailable          now it does not work: ask again after ``retry_after`` seconds
        ├── BrokerUnavailable    the broker takes no requests or gives no answers
        ├── NotAnswered          it was sent, and no answer came in time
        ├── WorkerUnavailable    the worker says that it cannot serve it now
        └── OutcomeUnknown       a proof is used up, perhaps: let the user begin anew
"""

from __future__ import annotations


class SessionClientError(Exception):
    """The request did not get an answer that can be used."""


class ConfigurationError(SessionClientError, ValueError):
    """An argument or setting has a type, a form or a combination that cannot be right.

    The message names it and never quotes it.
    """


class WrongFieldsError(ValueError):
    """Fields of a login step that are missing, superfluous, too long, or of another type.

    ``names`` are the table's own, or "unknown field"; nothing is quoted.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class _Refused(SessionClientError):  # noqa: N818 - reads as the state it reports
    def __init__(self, reason: str | None, request_id: str, detail: str | None = None) -> None:
        super().__init__(reason, request_id, detail)  # all of them, so that it can be pickled
        self.reason = reason
        self.request_id = request_id
        self.detail = detail

    def __str__(self) -> str:
        text = self.reason or "no reason given"
        return f"{text} ({self.detail})" if self.detail else text


class InvalidRequest(_Refused):
    """The worker refuses the request for good: asking again unchanged cannot help.

    ``reason`` is one of `Reason`; ``detail`` is for a developer's eyes.
    """


class Unauthorized(_Refused):
    """The worker cannot prove this app by its key, or the app may not ask this.

    ``reason`` says which: ``wrong_key`` and ``unknown_app`` are about the app's own settings,
    ``app_disabled`` and ``not_permitted`` are up to an operator (``mosaic-sessions apps``).
    """


class SealBroken(SessionClientError):  # noqa: N818
    """A sealed text that no known key opens, or that is about something else."""


class InvalidNotice(SessionClientError):  # noqa: N818
    """A notice that is not what it claims to be. Answer 400, and do not act on it."""


class NotAcknowledged(SessionClientError):  # noqa: N818
    """The worker has not confirmed in time that it committed the request.

    Treat the user as *not yet* logged out elsewhere, and repeat the call with this
    ``request_id``: repeating is harmless. ``why`` says in words what happened.
    """

    def __init__(self, request_id: str, why: str) -> None:
        super().__init__(request_id, why)
        self.request_id = request_id
        self.why = why

    def __str__(self) -> str:
        return f"not acknowledged ({self.why}); repeat it with request_id={self.request_id}"


class Unavailable(SessionClientError):  # noqa: N818
    """It does not work now. ``retry_after`` is in seconds, if the worker knows.

    ``request_id`` is the request's; None if it never was one. Ask again with it, and the same
    arguments, where no answer came (`BrokerUnavailable`, `NotAnswered`). After `WorkerUnavailable`
    call `start` and `authenticate` without it: under the old id the old answer comes again.
    """

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.request_id = request_id


class BrokerUnavailable(Unavailable):
    """The broker cannot be reached, or does not answer in time.

    The request may have arrived all the same: a lost confirmation looks like this too. The message
    ends with the type of the error behind it, and quotes neither its text nor the URL:

    - ``gaierror``: no such host; ``ConnectionRefusedError``: no server listens on that port;
    - ``AuthenticationError``: wrong user or password; ``NoPermissionError``: a right is missing in
      this user's Redis ACL (``docs/operations.md`` has what an app needs);
    - ``ResponseError``: Redis answers no, for instance to a database number it does not have;
      ``OutOfMemoryError``, ``ReadOnlyError``: it is full, or a replica;
    - ``SSLCertVerificationError``: its certificate is of no authority known here, or for another
      host;
    - ``ModuleNotFoundError``, ``ImportError``: Celery needs a library for this kind of broker;
    - ``TimeoutError``, or "in time" instead of a type: it does not answer. A ``rediss://`` URL to a
      Redis without TLS looks like this too.
    """


class NotAnswered(Unavailable):
    """No answer arrived in time. The worker may still do what was asked."""


class WorkerUnavailable(Unavailable):
    """The worker cannot serve the request now; ``reason`` is one of `Reason`."""

    def __init__(
        self,
        reason: str | None = None,
        *,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            reason or "no reason given", retry_after=retry_after, request_id=request_id
        )
        self.reason = reason


class OutcomeUnknown(Unavailable):
    """It may have happened, and no answer says whether: let the user begin anew.

    Repeating the request repeats this answer. The client never repeats it by itself.
    """
