"""Ending sessions, all by one way, `end_sessions`. An ending that is committed is final."""
