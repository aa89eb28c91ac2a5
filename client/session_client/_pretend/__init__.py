"""A model of the worker for tests of apps, held to the real one by stories that run against both.

`store` is what it knows, `sign_in`, `logins` and `sign_out` are what it answers, `planned` what a
test answers in its place.
"""
