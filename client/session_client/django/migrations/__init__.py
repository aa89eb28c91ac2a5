"""The table of marks."""
