"""Tells apps that a user is logged out: OpenID Connect Back-Channel Logout 1.0."""

from __future__ import annotations

from worker.backchannel.addresses import check_address
from worker.backchannel.sender import NoticeSender, build_notice_sender

__all__ = ["NoticeSender", "build_notice_sender", "check_address"]
