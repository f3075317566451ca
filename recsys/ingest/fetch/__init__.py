"""Getting an archive: from the cache, a server, or a package."""
