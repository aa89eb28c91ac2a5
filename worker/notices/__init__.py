"""Tells apps that a user is logged out: OpenID Connect Back-Channel Logout 1.0."""

from __future__ import annotations

from worker.notices.addresses import check_address
from worker.notices.sender import NoticeSender, build_notice_sender

__all__ = ["NoticeSender", "build_notice_sender", "check_address"]
