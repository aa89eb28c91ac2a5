"""What can go wrong between an app and the worker.

::

    SessionClientError
    ├── InvalidAppKeyError   the configured key is none: fix the app's settings
    ├── InvalidArgumentError the call cannot be a request: fix the calling code
    ├── BrokerUnavailable    not sent, as far as we can tell: try again
    ├── NotAnswered          sent, but no answer in time: the outcome is unknown
    ├── NotAcknowledged      a logout (or registration) is not committed yet
    └── SealBroken           a sealed text that does not open, or is about something else

A refusal by the worker is no exception: it is an answer with a verdict.
"""

from __future__ import annotations


class SessionClientError(Exception):
    """The request did not get an answer that can be used."""


class InvalidAppKeyError(SessionClientError):
    """The app key must read <kid>.<43 base64url characters>, as `apps add` printed it."""

    def __init__(self) -> None:
        super().__init__(str(self.__doc__))


class InvalidArgumentError(SessionClientError, ValueError):
    """An argument has a type, a form or a combination that no request can have."""


class BrokerUnavailable(SessionClientError):  # noqa: N818 - reads as the state it reports
    """The broker did not take the message in time. It may have arrived all the same."""


class NotAnswered(SessionClientError):  # noqa: N818
    """No answer arrived in time. The worker may still do what was asked."""


class NotAcknowledged(SessionClientError):  # noqa: N818
    """The worker has not confirmed that it committed the request.

    Treat the user as *not yet* logged out elsewhere, and repeat the call with this
    ``request_id``: repeating is harmless.
    """

    def __init__(self, request_id: str, why: str) -> None:
        super().__init__(f"not acknowledged ({why}); repeat it with request_id={request_id}")
        self.request_id = request_id
        self.why = why


class SealBroken(SessionClientError):  # noqa: N818
    """A sealed text that no known key opens, or that is about something else."""
