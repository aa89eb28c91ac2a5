"""The drivers: they do what a call's life asks for, on a Redis."""
