-- Makes the allocation row at genesis.
INSERT INTO allocation (origin, next_index, ledger_time, registry_index)
VALUES (%(origin)s, 1, %(ledger_time)s, 0)
