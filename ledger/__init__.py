"""The ledger's pure rules: formats, tree, life cycle, admission, sequencing, evidence."""
