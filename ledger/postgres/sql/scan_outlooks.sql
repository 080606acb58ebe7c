-- Reads when certificates of entries are looked at anew, and the places in status lists that they gave (primary key).
SELECT log_index, seen_at, due_at, dues, places
FROM outlook
ORDER BY log_index
