"""Parses the files of a source into rows in canonical columns. Where the files come from belongs in fetch."""
