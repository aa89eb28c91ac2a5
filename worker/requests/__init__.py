"""A request of an app: opened, checked, parsed, and answered exactly once."""
