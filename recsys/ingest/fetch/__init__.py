"""Gets an archive from the cache, a server or a package. Reading its content belongs in archives and parse."""
