"""What an app may ask, each declared once: its arguments, its payload, what it comes to.

`SessionClient` and `AsyncSessionClient` take their methods from here, texts included; those of an
active login stand in `session_client.logins`.
"""

from session_client.requests.base import Request, content_of, new_request_id
from session_client.requests.logout import ConfirmNotice, Logout, Receipt, RevokeUser
from session_client.requests.sign_in import (
    IssueTicket,
    Refresh,
    Register,
    SilentAuth,
    Status,
    Wishes,
    new_verifier,
)

__all__ = [
    "ConfirmNotice",
    "IssueTicket",
    "Logout",
    "Receipt",
    "Refresh",
    "Register",
    "Request",
    "RevokeUser",
    "SilentAuth",
    "Status",
    "Wishes",
    "content_of",
    "new_request_id",
    "new_verifier",
]
