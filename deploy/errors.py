"""What goes wrong with the machinery around the ledger."""


class StackError(Exception):
    """A sentence for the person at the terminal: what was found, and what is needed."""
