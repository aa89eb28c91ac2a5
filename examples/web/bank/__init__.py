"""A bank: its settings, and views that want a second factor."""
