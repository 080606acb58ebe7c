-- Empties the session's table of changed holders for a turn's next piece.
DELETE FROM bound
