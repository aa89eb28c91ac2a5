"""Rows of sessions: finding them, linking apps to them, their caps, their audit trail."""
