-- Streams every checkpoint ever signed by size (primary key).
SELECT size, note, published_at
FROM checkpoint
ORDER BY size
