-- Notes that status lists must be made anew (primary key).
UPDATE status_list
SET is_changed = true
WHERE list = ANY (%(lists)s::integer[]) AND NOT is_changed
