-- Empties the session's table of changed certificates for a turn's next piece.
DELETE FROM changed
