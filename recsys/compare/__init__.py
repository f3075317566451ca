"""Every network on the same rows: split, train, measure, and one table beside what the write-ups reported."""
