"""Nights on a schedule: the Prefect deployments, and a local server and worker that run them."""
