-- Reads the roots over the groups of a bundle's lines, chunk by chunk (primary key).
SELECT groups
FROM lines
WHERE log_index = %(index)s
ORDER BY chunk
