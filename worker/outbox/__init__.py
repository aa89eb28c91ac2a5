"""What Mosaic and the apps must still be told, kept in rows until they confirm it.

One delivery is one lease, one call. No transaction is open while Mosaic or an app is called: read,
close, call, open, write.
"""
