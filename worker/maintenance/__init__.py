"""What beat runs: expiring sessions, deleting history. A live session is never touched."""
