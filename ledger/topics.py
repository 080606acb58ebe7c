"""The Kafka topics, by name."""

EVENTS = "certledger.events.v1"  # intake: records of bundles, key DEPARTMENT/LANE
LOG = "certledger.log.v1"  # entries and checkpoints, one partition, kept for ever
RECEIPTS = "certledger.receipts.v1"  # receipts and notices, key DEPARTMENT/LANE
LANES = "certledger.lanes.v1"  # compacted: the last state of each lane
DEAD_LETTERS = "certledger.dead-letters.v1"  # records that can never become an entry, and why

EXPIRY = "certledger.expiry.v1"  # certificates that end soon or now, key the map key in hex
RECALLS = "certledger.recalls.v1"  # what a case relies on has changed, key the office


def lane_key(department: str, lane: int) -> bytes:
    """The Kafka key of everything about one lane."""
    return f"{department}/{lane}".encode()
