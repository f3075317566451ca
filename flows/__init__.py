"""The Prefect flows and the command line. They call `recsys`, which contains all computation."""
