"""What the tenant holds: its apps, people and sessions, and what they prove themselves with."""
