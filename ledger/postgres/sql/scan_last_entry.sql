-- Reads the log index of the last entry (primary key, backwards).
SELECT max(log_index)
FROM entry
