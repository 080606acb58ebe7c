-- The accounts for a PostgreSQL that runs elsewhere; run once by its superuser in the ledger's database:
--   psql -v database=certledger -f deploy/postgres-roles.sql
-- Set a password for each (\password certledger_admission …), then give every program the address of
-- its role: CERTLEDGER_POSTGRES in its own environment, or CERTLEDGER_POSTGRES_ADMISSION,
-- _SEQUENCER, _RELAY, _FOLLOWER, _READER, _AUDITOR and _MIGRATOR for `certledger up`, which sets up
-- tables and privileges as the migrator. Passwords belong in files (passfile=… in the address).
CREATE ROLE certledger_migrator LOGIN;
CREATE ROLE certledger_admission LOGIN;
CREATE ROLE certledger_sequencer LOGIN;
CREATE ROLE certledger_relay LOGIN;
CREATE ROLE certledger_follower LOGIN;
CREATE ROLE certledger_reader LOGIN;
CREATE ROLE certledger_auditor LOGIN;

ALTER ROLE certledger_admission SET transaction_timeout = '5s';
ALTER ROLE certledger_admission SET idle_in_transaction_session_timeout = '3s';
ALTER ROLE certledger_sequencer SET transaction_timeout = '5s';
ALTER ROLE certledger_sequencer SET idle_in_transaction_session_timeout = '3s';
ALTER ROLE certledger_relay SET transaction_timeout = '5s';
ALTER ROLE certledger_relay SET idle_in_transaction_session_timeout = '3s';
ALTER ROLE certledger_follower SET transaction_timeout = '50s';
ALTER ROLE certledger_follower SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE certledger_reader SET default_transaction_read_only = on;
ALTER ROLE certledger_auditor SET default_transaction_read_only = on;

-- The function that ends a frozen holder of the turn works with the migrator's rights.
GRANT certledger_admission, certledger_sequencer TO certledger_migrator;

ALTER DATABASE :"database" OWNER TO certledger_migrator;
ALTER SCHEMA public OWNER TO certledger_migrator;
