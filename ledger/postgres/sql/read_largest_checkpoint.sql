-- Reads the largest checkpoint that was signed (primary key, backwards).
SELECT size, note
FROM checkpoint
ORDER BY size DESC
LIMIT 1
