-- Reads the number of the next recall (primary key).
SELECT coalesce(max(number) + 1, 0)
FROM recall
