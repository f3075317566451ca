"""From the files of a source to rows in canonical columns. Where the files come from belongs in fetch."""
