-- Has this session told of published checkpoints.
LISTEN certledger_publication
