-- What an operator declared lost is accounted for too, and names the entry that says so.
ALTER TABLE accounting
    DROP CONSTRAINT accounting_outcome_check,
    ADD CONSTRAINT accounting_outcome_check CHECK (outcome IN (
        'logged', 'repeat', 'out-of-sequence', 'fenced', 'equivocation', 'dead-letter', 'skipped',
        'lost'
    )),
    DROP CONSTRAINT accounting_check1,
    ADD CONSTRAINT accounting_check1
        CHECK (outcome NOT IN ('logged', 'repeat', 'lost') OR log_index IS NOT NULL);
