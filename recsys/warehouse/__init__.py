"""The published tables: built in a new file, audited, swapped in, exported, and read by short queries.

Queries about the lists belong in `ask`. The computation of the rows belongs in the folders of the earlier steps.
"""
