-- Marks that rows of certificates leave out what an only event implies from now on: programs from before stop at them.
COMMENT ON COLUMN certificate.state IS 'ledger/staterow.py; rows written since migration 14 end with a checksum, since 17 they may be short';
