"""Alerts: their text, their recipients, and the removal of secrets. Which events cause an alert is decided in flows."""
