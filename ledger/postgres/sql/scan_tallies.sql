-- Reads the running counts.
SELECT name, count
FROM tally
