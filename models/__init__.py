"""The store's tables, one concept a file. Imports nothing else of this project."""

from __future__ import annotations

from models.app import App, AppKey, TokenEndpointAuthMethod
from models.base import Base, UtcDateTime, new_id
from models.browser_token import BrowserToken, TokenOrigin
from models.idp_session import AppSession, EndCause, IdpSession, SessionAlias
from models.login_call import CallKind, CallOutcome, LoginCall
from models.logout import Logout, LogoutRequest, LogoutRequestSession
from models.notice import Notice, NoticeMethod
from models.operator_action import OperatorAction
from models.retention import RETENTION, Retention
from models.session_event import SessionEvent
from models.ticket import Ticket
from models.user_revocation import UserRevocation
from models.watermark import ALL_APPS, DeviceWatermark, UserWatermark

__all__ = [
    "ALL_APPS",
    "RETENTION",
    "App",
    "AppKey",
    "AppSession",
    "Base",
    "BrowserToken",
    "CallKind",
    "CallOutcome",
    "DeviceWatermark",
    "EndCause",
    "IdpSession",
    "LoginCall",
    "Logout",
    "LogoutRequest",
    "LogoutRequestSession",
    "Notice",
    "NoticeMethod",
    "OperatorAction",
    "Retention",
    "SessionAlias",
    "SessionEvent",
    "Ticket",
    "TokenEndpointAuthMethod",
    "TokenOrigin",
    "UserRevocation",
    "UserWatermark",
    "UtcDateTime",
    "new_id",
]
