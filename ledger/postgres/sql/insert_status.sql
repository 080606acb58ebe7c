-- Remembers where a status entry stands.
INSERT INTO status (log_index, ledger_time, maps)
VALUES (%(log_index)s, %(ledger_time)s, %(maps)s)
