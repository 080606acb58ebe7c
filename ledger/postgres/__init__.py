"""The ledger's store in PostgreSQL: the only place that talks to it."""
