"""How fast the ledger is, everything on one machine: `python -m bench` (see `__main__`)."""
