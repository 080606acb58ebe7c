"""The read side: queries, offline verifier, fsck."""
