"""The read side over HTTP: the log as C2SP tiles, status lists."""
