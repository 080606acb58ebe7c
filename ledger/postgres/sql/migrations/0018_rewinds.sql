-- Marks that certificates can be rewound and long histories have room kept, rules by which a turn decides: programs from
-- before would decide otherwise beside this one.
COMMENT ON TABLE certificate IS 'ledger/staterow.py; decided by rules that know rewinds since migration 18';
