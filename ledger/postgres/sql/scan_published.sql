-- Reads the size of the largest published checkpoint (primary key, backwards).
SELECT max(size)
FROM checkpoint
WHERE published_at IS NOT NULL
