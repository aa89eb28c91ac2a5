"""The operators' verbs: `mosaic-sessions`."""
