"""The client without I/O: what is sent, what is believed, and how one call goes."""
