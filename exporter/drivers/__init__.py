"""Where driver packages are imported: connecting, aborting, and turning a driver's exception into a ProbeError.

Knows no probe, no schedule and no configuration file. One file a driver; what they share is `kept` (connections),
`dns` (name lookups) and `tls` (contexts).
"""
