-- Takes the sequencer's session lock, or says that another has it.
SELECT pg_try_advisory_lock(%(lock)s)
