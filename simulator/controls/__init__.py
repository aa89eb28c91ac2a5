"""What a test holds in its hands: faults, gates, the clock, the calls, and all of it from afar."""
