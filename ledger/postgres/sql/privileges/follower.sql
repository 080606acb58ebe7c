-- The follower: give places in status lists, keep the lists, write notices of ends.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
REVOKE SELECT ON blinding_secret FROM {role};
GRANT INSERT ON status_secret, status_list, status_change, expiry_notice, outlook TO {role};
GRANT INSERT, UPDATE ON relay TO {role};
GRANT UPDATE (seen_at, due_at, dues) ON outlook TO {role};
GRANT UPDATE (is_changed, vkey, tree_size, issued_at, jwt, cwt, revocation, suspension, refresh)
    ON status_list TO {role};
