-- Reads chunks of event lines and who signed their bundles; locks nothing (primary keys).
SELECT log_index, chunk, department, key_id, data
FROM unnest(%(indexes)s::bigint[], %(chunks)s::integer[]) AS wanted (log_index, chunk)
JOIN lines USING (log_index, chunk)
JOIN signer ON signer.number = lines.signer
