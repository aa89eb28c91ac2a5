"""Tokens for apps, from sessions that are there and those that apps register.

No transaction is open while Mosaic is called: read, close, call, open, write.
"""
