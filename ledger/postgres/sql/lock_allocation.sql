-- Takes the turn: locks the allocation row until the transaction ends.
SELECT origin, next_index, ledger_time, registry_index, next_outbox, microseconds_now()
FROM allocation
FOR UPDATE
