-- Reads the allocation row without the turn.
SELECT origin, next_index, ledger_time, registry_index, next_outbox
FROM allocation
