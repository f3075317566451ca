"""A run: its lock, records, resume, rollback, retention and summary. The steps themselves are in `recsys.steps`."""
