-- Reads one chunk of event lines (primary key).
SELECT data, signer
FROM lines
WHERE log_index = %(index)s AND chunk = %(chunk)s
