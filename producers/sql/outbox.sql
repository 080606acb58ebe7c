-- The outbox of a department's own database: `certledger outbox run` publishes what is in it.
--
-- The application inserts a row in the transaction of the decision itself, so that both are there or
-- neither. Rows are published in the order in which these transactions commit, whatever their ids:
--
--   INSERT INTO certledger.outbox
--       (change_id, event, certificate_type_code, certificate_number, valid_from, valid_until,
--        holder_scheme, holder_number)
--   VALUES ('case-2026-17', 'issued', 'taxi', '川A-000123', '2026-01-05', '2030-12-31',
--       '001', '91510100MA61RQ5X0J');
BEGIN;
CREATE SCHEMA IF NOT EXISTS certledger;
CREATE SEQUENCE certledger.outbox_number;
CREATE TABLE certledger.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,

    -- What was decided, by the application. NULL: left out. What each means: certledger publish --help.
    change_id text NOT NULL UNIQUE,  -- the decision's own number: the same one is the same event, for ever
    event text NOT NULL,  -- issued, renewed, amended, suspended, reinstated, revoked, expired, …
    certificate_type_code text NOT NULL,
    certificate_number text NOT NULL,
    issuing_authority_code text,  -- who first issued it, where that is another department
    certificate_identifier text,
    valid_from text,  -- a day, or unknown
    valid_until text,  -- the last day, unknown or open
    holder_scheme text,  -- 111, 001, …, with holder_number; only a pseudonym of both is published
    holder_number text,
    holder_pseudonym text,  -- in place of both
    revocation_kind text,
    reason_code text,
    transfer_to text,
    corrects text,
    correction text,
    claims jsonb,  -- public facts: an object of texts
    private jsonb,  -- facts that only a commitment shows: an object of texts
    time timestamptz NOT NULL DEFAULT now(),  -- when it was decided
    recordedtime timestamptz,

    -- What became of it, by certledger.
    number bigint,  -- ascends in the order of the commits
    event_id text,  -- since the row was taken to be published
    outcome text,  -- admitted, repeat (it was there before), or the code of a refusal
    reason text,  -- why it was refused
    log_index bigint,  -- the receipt: its entry in the ledger's log
    log_position integer,  -- and its place in that entry
    answered_at timestamptz,
    held_key bytea,  -- of a row that can be no event: its certificate
    waits_for bigint  -- the id of an earlier row of this certificate that can be no event
);

-- Runs when the transaction commits, and holds its lock until that is over: so numbers ascend in the
-- order of the commits, which sequences, clocks and transaction ids do not.
CREATE FUNCTION certledger.number_outbox() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7162256624944414722);
    UPDATE certledger.outbox SET number = nextval('certledger.outbox_number') WHERE id = NEW.id;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER number_at_commit AFTER INSERT ON certledger.outbox
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION certledger.number_outbox();

CREATE INDEX outbox_untaken ON certledger.outbox (number, id)
WHERE event_id IS NULL AND outcome IS NULL AND waits_for IS NULL;
CREATE INDEX outbox_open ON certledger.outbox (event_id) WHERE outcome IS NULL AND event_id IS NOT NULL;
CREATE INDEX outbox_held ON certledger.outbox (held_key) WHERE event_id IS NULL AND outcome IS NOT NULL;
CREATE INDEX outbox_waiting ON certledger.outbox (waits_for) WHERE waits_for IS NOT NULL;

-- The application's account and certledger's own (names of your choice):
--   GRANT USAGE ON SCHEMA certledger TO licences, certledger;
--   GRANT SELECT, INSERT ON certledger.outbox TO licences;
--   GRANT SELECT, UPDATE ON certledger.outbox TO certledger;
COMMIT;
