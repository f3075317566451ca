"""Getting an archive: from the cache, a server or a package. What is inside it belongs in archives and parse."""
