"""Celery tasks: each opens its message, calls one function and decides about retry."""
