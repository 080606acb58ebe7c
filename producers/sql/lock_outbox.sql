-- Takes the outbox for this session, if nobody else has it (advisory lock until the session ends).
SELECT pg_try_advisory_lock(7162256624944414723)
