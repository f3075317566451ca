"""Parses the files of a source into rows in canonical columns. Getting the files belongs in fetch."""
