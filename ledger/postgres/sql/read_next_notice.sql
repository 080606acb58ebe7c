-- Reads the number of the next notice of an end (primary key).
SELECT coalesce(max(number) + 1, 0)
FROM expiry_notice
