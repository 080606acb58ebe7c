-- Reads the largest published checkpoint.
SELECT size, note
FROM checkpoint
WHERE published_at IS NOT NULL
ORDER BY size DESC
LIMIT 1
