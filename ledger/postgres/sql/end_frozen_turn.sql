-- Ends the session that holds the turn while PostgreSQL waits for its bytes for 3 s: frozen in the
-- middle of a COPY, where the transaction's own timeouts do not reach it. Locks nothing.
SELECT end_frozen_turn()
