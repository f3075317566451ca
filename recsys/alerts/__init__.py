"""Alerts: what they say, where they go, and what must never be in them. When to send one is for flows to decide."""
