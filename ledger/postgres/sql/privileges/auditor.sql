-- The operator's own check and backup: read everything, the secrets included.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
