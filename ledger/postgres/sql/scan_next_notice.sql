-- Reads how many notices of ends there are (primary key).
SELECT coalesce(max(number) + 1, 0)
FROM expiry_notice
