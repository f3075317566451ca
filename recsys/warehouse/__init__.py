"""The published tables: built in a new file, audited, swapped in, exported, and read by short queries.

What people ask of their lists is in `ask`; how the rows are made is in the rooms before it.
"""
