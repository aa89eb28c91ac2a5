"""A Mosaic to develop against: it keeps state, checks what it is asked, and fails on demand."""
