"""A Mosaic to develop against: it keeps state, checks what it is asked, and fails on demand.

`idp/` pretends to be Mosaic: `contract/` declares each call as its page shows it, `methods/` sign
users in, `store/` is what the tenant holds. `controls/` is what a test holds in its hands, in this
process (`SimulatorServer.state`) or from another (`controls.remote`): people and their devices,
what was sent to them, every call there was, faults, gates and the clock.
"""
