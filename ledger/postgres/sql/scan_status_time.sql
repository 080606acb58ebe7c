-- Reads the ledger time of the status entry at an index (primary key).
SELECT ledger_time
FROM status
WHERE log_index = %(index)s
