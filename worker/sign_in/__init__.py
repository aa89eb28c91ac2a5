"""Tokens for apps.

No transaction is open while Mosaic is called: read, close, call, open, write.
"""
