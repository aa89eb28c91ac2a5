"""Settings: what the environment says, checked once, shown without secrets."""
