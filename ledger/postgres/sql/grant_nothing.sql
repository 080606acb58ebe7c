-- Takes back whatever a role may do in this database, and what everybody may do there by default.
DO $$
BEGIN
    REVOKE ALL ON DATABASE {database} FROM PUBLIC, {role};
    REVOKE ALL ON SCHEMA public FROM PUBLIC, {role};
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, {role};
    GRANT CONNECT ON DATABASE {database} TO {role};
    GRANT USAGE ON SCHEMA public TO {role};
END $$
