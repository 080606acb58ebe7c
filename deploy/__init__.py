"""Where certledger runs: the one room that knows all the others."""
