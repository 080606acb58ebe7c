-- Appends one entry at the turn's index.
INSERT INTO entry (log_index, data)
VALUES (%(log_index)s, %(data)s)
