"""Running nights on a schedule: the deployments, and a local Prefect server and worker for them."""
