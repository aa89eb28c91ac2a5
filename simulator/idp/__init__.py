"""What pretends to be Mosaic: its endpoints, what it remembers, how it says no."""
