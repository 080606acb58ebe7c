-- Ending a frozen session that holds the turn, for roles that may not end sessions.

CREATE FUNCTION end_frozen_turn() RETURNS bigint LANGUAGE sql VOLATILE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(pg_terminate_backend(pid))
    FROM pg_stat_activity
    WHERE backend_xid = (SELECT xmax FROM allocation)
        AND wait_event = 'ClientRead'
        AND query_start < clock_timestamp() - interval '3 s'
$$;
