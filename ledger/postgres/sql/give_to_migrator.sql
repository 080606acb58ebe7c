-- Makes a role the owner of the database and of all that the ledger has in it; locks each table that
-- changes hands.
DO $$
DECLARE
    migrator text := %(migrator)s;
    part record;
BEGIN
    EXECUTE format('ALTER DATABASE %%I OWNER TO %%I', current_database(), migrator);
    FOR part IN
        SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
            AND relowner <> migrator::regrole
    LOOP
        EXECUTE format('ALTER TABLE public.%%I OWNER TO %%I', part.relname, migrator);
    END LOOP;
    FOR part IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner <> migrator::regrole
    LOOP
        EXECUTE format('ALTER FUNCTION %%s OWNER TO %%I', part.name, migrator);
    END LOOP;
END $$
