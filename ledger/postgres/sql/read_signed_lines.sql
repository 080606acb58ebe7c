-- Reads event lines of the bundles that one key signed in a range of entries (primary key of lines).
SELECT log_index, chunk, data
FROM lines
JOIN signer ON signer.number = lines.signer
WHERE log_index >= %(begin)s AND log_index < %(end)s
    AND department = %(department)s AND key_id = decode(%(key_id)s, 'hex')
ORDER BY log_index, chunk
