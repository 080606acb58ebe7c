-- Reads all status lists without their forms.
SELECT list, uri, is_changed, vkey, tree_size, issued_at
FROM status_list
ORDER BY list
