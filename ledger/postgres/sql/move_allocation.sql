-- Ends a turn: the next index, time, registry change and outbox number. Needs lock_allocation's lock.
UPDATE allocation
SET next_index = %(next_index)s, ledger_time = %(ledger_time)s,
    registry_index = %(registry_index)s, next_outbox = %(next_outbox)s
WHERE next_index = %(was)s
