-- Marks that rows of certificates keep up to six acts that decide, where it was three: fsck of programs from before would
-- report them. What rows keep already stays as it is.
COMMENT ON COLUMN certificate.state IS 'ledger/staterow.py; rows written since migration 14 end with a checksum, since 17 they may be short, since 20 they keep up to six acts that decide';
