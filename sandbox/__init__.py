"""The stage: real servers and real processes for the demo, for `make dev` and for the tests.

Everything here listens on 127.0.0.1 only, on a private free port, keeps its files in a
temporary folder, and is gone when the process that started it is gone.
"""
