"""One night's run: its lock, its records, resume, rollback, retention and summary. What a step does is elsewhere."""
