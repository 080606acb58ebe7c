-- Marks that rows of certificates end with a checksum from now on: programs from before stop at them.
COMMENT ON COLUMN certificate.state IS 'ledger/staterow.py; rows written since migration 14 end with a checksum';
