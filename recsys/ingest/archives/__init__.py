"""Opens an archive or a folder safely. Parsing its files belongs in parse."""
