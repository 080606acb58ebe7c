-- Reads which certificates must be looked at anew at a time (outlook_due_at, outlook_holds_from).
(SELECT map_key FROM outlook WHERE due_at <= %(now)s ORDER BY due_at LIMIT %(limit)s)
UNION
(SELECT map_key FROM outlook WHERE holds_from > %(now)s ORDER BY holds_from LIMIT %(limit)s)
