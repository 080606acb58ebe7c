-- Reads all running counts.
SELECT name, count
FROM tally
