-- Ends the session that holds the turn while PostgreSQL waits for its bytes for 3 s: frozen in the
-- middle of a COPY, where the transaction's own timeouts do not reach it. Locks nothing.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE backend_xid = (SELECT xmax FROM allocation)
    AND wait_event = 'ClientRead'
    AND query_start < clock_timestamp() - interval '3 s'
