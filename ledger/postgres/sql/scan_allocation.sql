-- Reads the allocation row.
SELECT origin, next_index, ledger_time, registry_index, next_outbox
FROM allocation
