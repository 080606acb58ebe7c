"""Where records flow: the Faust admission worker, the sequencer's loop, the relays."""
