-- Finds the last status entry below a size with a ledger time up to a moment (status_ledger_time).
SELECT log_index
FROM status
WHERE ledger_time <= %(moment)s AND log_index < %(size)s
ORDER BY ledger_time DESC, log_index DESC
LIMIT 1
