"""Wiring: the nightly flow and the command line. Heavy lifting belongs in `recsys`."""
