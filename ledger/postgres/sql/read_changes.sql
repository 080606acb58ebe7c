-- Reads what is said at places of status lists, change by change, from behind one on; locks nothing (primary key).
SELECT list, number, changes
FROM status_change
WHERE (list, number) > (%(list)s, %(number)s)
ORDER BY list, number
LIMIT %(limit)s
