"""The database, Redis and the keys that seal what lies in both."""
