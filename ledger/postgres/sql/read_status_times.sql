-- Reads the ledger times of status entries, of those indexes that are one (primary key).
SELECT log_index, ledger_time
FROM status
WHERE log_index = ANY (%(indexes)s::bigint[])
