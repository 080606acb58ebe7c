-- Notes when certificates of some entries must be looked at anew (primary key, HOT where due_at stays).
UPDATE outlook
SET seen_at = %(now)s, due_at = seen.due_at, dues = seen.dues
FROM unnest(%(indexes)s::bigint[], %(due_at)s::bigint[], %(dues)s::bytea[]) AS seen (log_index, due_at, dues)
WHERE outlook.log_index = seen.log_index
