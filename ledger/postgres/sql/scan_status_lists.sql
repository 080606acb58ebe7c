-- Reads all status lists with their forms.
SELECT list, uri, vkey, tree_size, issued_at, jwt, cwt, revocation, suspension, refresh
FROM status_list
ORDER BY list
