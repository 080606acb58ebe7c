-- Streams stored event lines in log order (primary key).
SELECT log_index, chunk, data, signer, groups
FROM lines
ORDER BY log_index, chunk
