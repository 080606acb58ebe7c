-- Reads what is said at places of status lists, change by change (primary key).
SELECT list, number, changes
FROM status_change
ORDER BY list, number
