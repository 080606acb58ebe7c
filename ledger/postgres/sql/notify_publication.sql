-- Wakes whoever waits for the next published checkpoint, at the commit; locks nothing until then.
NOTIFY certledger_publication
