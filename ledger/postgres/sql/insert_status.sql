-- Remembers where a status entry stands.
INSERT INTO status (log_index, ledger_time)
VALUES (%(log_index)s, %(ledger_time)s)
