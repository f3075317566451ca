"""Opening an archive or a folder safely. What its files mean belongs in parse."""
