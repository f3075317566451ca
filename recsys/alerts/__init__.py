"""Alerts: their text, their recipients, and the removal of secrets. `flows` decides which events cause an alert."""
