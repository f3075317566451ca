"""Running nights on a schedule: the deployment, and a local Prefect that serves it."""
