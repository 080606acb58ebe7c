-- Reads the tree head.
SELECT size, root
FROM head
