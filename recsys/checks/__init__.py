"""What the data must be: rules, Great Expectations, quarantine."""
