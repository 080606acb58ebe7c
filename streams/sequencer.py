"""`python -m streams.sequencer`: steps 6 and 7, round after round.

One status entry, read-back, tiles, head, signature, log topic, publication: in this order, and
never anything signed before the head is committed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ledger import merkle, tiles
from ledger.checkpoint import Checkpoint
from ledger.checkpoint_keys import required
from ledger.errors import ProofError
from ledger.keys import passphrase_in, unlock_with
from ledger.logs import FORMAT_VARIABLE, get_log, set_up
from ledger.policy import NONE, Policy, parse_policy
from ledger.postgres.connection import connect, transaction
from ledger.postgres.maps import Maps
from ledger.postgres.migrate import check_schema
from ledger.postgres.pool import Pool
from ledger.postgres.rows import read_origin
from ledger.postgres.sequencing import Head, Sequencing, read_head, tile_reader
from ledger.sequencing import Cadence, round_seconds

from .ending import exit_with_reason, stop_on_signals
from .logwriter import LogWriter
from .memory import collect_seldom
from .settings import Settings
from .signer import RemoteRing
from .signing import CheckpointSigner, KeyRing
from .witnesses import Witnesses

log = get_log(__name__)

MIN_WAIT_SECONDS = 0.01
LEAD_WAIT_SECONDS = 1.0
LEAD_IDLE_SECONDS = 15  # a frozen sequencer loses the lead, and its connection with it

Step = Callable[[str], None]
"""Told the name of each point at which a crash leaves something else behind; tests crash there."""


def no_step(name: str) -> None:
    """What happens between the steps in real life: nothing."""


class Sequencer:
    """The loop's body. `round` does everything that is due and is safe to repeat after a crash."""

    def __init__(
        self,
        store: Sequencing,
        writer: LogWriter,
        ring: CheckpointSigner,
        witnesses: Witnesses,
        origin: str,
        step: Step = no_step,
    ) -> None:
        self._store = store
        self._writer = writer
        self._ring = ring
        self._witnesses = witnesses
        self._origin = origin
        self._step = step
        self._cadence = Cadence()
        self._loaded: Maps | None = None
        self._told: object = None

    @property
    def _maps(self) -> Maps:
        """The status maps, loaded when they are first needed."""
        if self._loaded is None:
            self._loaded = Maps.load(self._store.connection)
            log.info("maps-loaded", log_index=self._loaded.state)
        return self._loaded

    def start(self) -> None:
        """Compare with the log topic and the witnesses, then finish what a crash may have left."""
        head = self._store.head()
        subtree = tiles.subtree_reader(self._store.tile)
        _check_head(head, subtree)
        self._maps.catch_up(self._store.connection, head.size)
        keys = self._ring.known_keys(self._store.checkpoint_keys())
        self._writer.check(head, subtree, keys)
        self._witnesses.compare(head.size, self._store.largest_checkpoint(), keys)
        published = self._store.published()
        if head.size and (published is None or published[0] < head.size):
            self._sign(head)

    def round(self) -> Head | None:
        """One round: the new head under its signed checkpoint, None when there was no news.

        It is published at once where no witness is needed, else by a later `publish_due`. Without
        news the maps are due at once, if the last status entry lacks them.
        """
        was = self._store.head()
        news = self._store.has_news(was)
        maps = self._maps
        if not news and maps.state == was.size - 1:
            return None
        begun, cost = time.monotonic(), time.process_time()
        if news and not self._cadence.is_due(begun):
            size = self._store.append_status()
        else:
            size = self._store.append_status(maps)
            self._cadence.took(begun, time.process_time() - cost)
        self._step("status appended")
        head = advance(self._store, self._maps, was, size)
        self._step("head moved")
        self._sign(head)
        return head

    def publish_due(self) -> None:
        """Publish the checkpoint that the quorum of witnesses has cosigned meanwhile, if any."""
        cosigned = self._witnesses.take()
        if cosigned is not None:
            self._store.publish(*cosigned)
            log.info("published", size=cosigned[0])
        states = self._witnesses.states()
        if states != self._told:
            self._store.write_witnesses([(s.name, s.size, s.seconds, s.problem) for s in states])
            self._told = states

    def _sign(self, head: Head) -> None:
        checkpoint = Checkpoint(self._origin, head.size, head.root)
        keys = required(self._store.checkpoint_keys(), head.size)
        note = self._ring.sign_checkpoint(
            checkpoint,
            keys,
            lambda old: merkle.prove_consistency(
                old, head.size, tiles.subtree_reader(self._store.tile)
            ),
        )
        self._step("signed")
        # What was kept before, by an earlier run, is what has left, or will: not this one.
        note = self._store.keep_checkpoint(head.size, note)
        self._writer.write(head.size, note)
        self._step("log topic written")
        self._witnesses.offer(head.size, note, self._maps.state == head.size - 1)
        self.publish_due()


def advance(store: Sequencing, maps: Maps, was: Head, size: int) -> Head:
    """Read back entries from `was` to `size` with what belongs to them, write tiles, move the
    head: the new one. Nothing is signed here.
    """
    maps.catch_up(store.connection, was.size)
    leaves = list(store.read_back(was.size, size, maps))
    edge: dict[tuple[int, int], bytes] = {}

    def stored(level: int, index: int) -> bytes:
        if (level, index) not in edge:
            edge[level, index] = store.tile(level, index)
        return edge[level, index]

    # What the tree grows from is what was signed before, or no root comes out of it.
    _check_head(was, tiles.subtree_reader(stored))
    changed = tiles.extend(was.size, leaves, stored)

    def read(level: int, index: int) -> bytes:
        found = changed.get((level, index))
        return stored(level, index) if found is None else found

    head = Head(size, merkle.tree_root(size, tiles.subtree_reader(read)))
    if maps.state == size - 1:
        store.advance(was, head, changed, maps.changed_tiles())
        maps.settle()
    else:
        store.advance(was, head, changed)
    return head


def _check_head(head: Head, subtree: merkle.Subtree) -> None:
    """None when the tiles' right edge hashes to the head: ProofError otherwise."""
    if merkle.tree_root(head.size, subtree) != head.root:
        raise ProofError(
            "stored-bytes-damaged", f"the tiles do not hash to the tree head of {head.size} leaves"
        )


def run(settings: Settings, stop: threading.Event, step: Step = no_step) -> None:
    """Wait for the lead, compare, and sequence until `stop`."""
    connection = connect(
        settings.postgres, "sequencer", writes=True, idle_seconds=LEAD_IDLE_SECONDS
    )
    check_schema(connection)
    with transaction(connection) as cursor:
        origin = read_origin(cursor)
    store = Sequencing(connection)
    ring: CheckpointSigner
    if settings.signer is not None:
        ring = RemoteRing(settings.signer)
    else:
        if settings.passphrase_file is not None:
            unlock_with(passphrase_in(settings.passphrase_file))
        ring = KeyRing.of_files(settings.checkpoint_key, settings.cosigner_key)
    witnesses = make_witnesses(read_policy(settings.policy), settings.postgres)
    waiting = False
    while not store.lead():
        if not waiting:
            log.info("another-leads")
        waiting = True
        if stop.wait(LEAD_WAIT_SECONDS):
            return
    writer = LogWriter(settings.kafka, store)
    sequencer = Sequencer(store, writer, ring, witnesses, origin, step)
    try:
        sequencer.start()
        log.info("started")
        before = time.monotonic()
        while not stop.is_set():
            begun, read = time.monotonic(), store.lines_read
            sequencer.round()
            # On an interval, never per entry: witnesses and readers have to keep up.
            seconds = round_seconds(store.lines_read - read, begun - before)
            witnesses.wait(max(begun + seconds - time.monotonic(), MIN_WAIT_SECONDS))
            before = begun
            sequencer.publish_due()
    finally:
        witnesses.close()
        writer.close()
        connection.close()


def read_policy(path: Path) -> Policy:
    """The policy in a file; without one, no witness is asked."""
    return parse_policy(path.read_bytes()) if path.exists() else Policy((), (), {}, NONE)


def make_witnesses(policy: Policy, postgres: str) -> Witnesses:
    """The witnesses of a policy, shown proofs out of the database's tiles."""
    pool = Pool(postgres, "witnesses")

    def prove(old: int, new: int) -> list[bytes]:
        return pool.read(
            lambda cursor: merkle.prove_consistency(
                old, new, tiles.subtree_reader(tile_reader(cursor))
            )
        )

    def root_at(size: int) -> bytes | None:
        return pool.read(
            lambda cursor: (
                None
                if size > read_head(cursor).size
                else merkle.tree_root(size, tiles.subtree_reader(tile_reader(cursor)))
            )
        )

    return Witnesses(policy, prove, root_at)


def main(step: Step = no_step) -> None:
    """Run until a signal comes; exit 70 with the reason on anything else."""
    set_up("sequencer", os.environ.get(FORMAT_VARIABLE))
    stop = stop_on_signals()
    collect_seldom()
    with exit_with_reason(log, "signing-stops"):
        run(Settings.from_environment(), stop, step)


if __name__ == "__main__":
    main()
