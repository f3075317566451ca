"""Great Expectations as the rest of the code uses it: run a checkpoint, read its result, render its Data Docs.

No rule is stated here; rules belong to those who check.
"""
