"""What happens to a session, in plain functions: no Celery and no HTTP types.

No transaction is open while Mosaic is called: read, close, call, open, write.
"""
