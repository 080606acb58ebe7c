-- Streams where status entries stand (primary key).
SELECT log_index, ledger_time, maps
FROM status
ORDER BY log_index
