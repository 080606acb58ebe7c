-- Running counts for `certledger status`: what the log's outcomes add up to.
CREATE TABLE tally (
    name text PRIMARY KEY,  -- certificates, admitted, or the code of a refusal
    count bigint NOT NULL CHECK (count >= 0)
);
