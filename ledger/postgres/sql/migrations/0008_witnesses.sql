-- How the witnesses of this ledger stand, for `certledger status`.
CREATE TABLE witness (
    name text PRIMARY KEY,  -- in the policy
    cosigned_size bigint,  -- of the largest checkpoint that it cosigned since the sequencer's start
    cosigned_at bigint,  -- seconds: the time that it stated
    problem text  -- why it did not cosign the last one it was asked for
);
