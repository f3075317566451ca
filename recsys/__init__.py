"""Plain functions behind the nightly recommender; nothing in here knows about Prefect."""

__version__ = "0.1.0"
