"""Doormen: each task opens its message, calls one lifecycle function and decides about retry."""
