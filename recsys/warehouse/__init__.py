"""The published tables: built in a new file, audited, swapped in, exported, and read by short queries.

Queries about the lists belong in `ask`, and the computation of the rows in the folders that work earlier in a night.
"""
