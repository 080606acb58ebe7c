"""The department's SDK: typed calls in, signed bundles out, a receipt for every event.

    with Publisher(load_publisher_config(data, "demo-transport"), "127.0.0.1:9092") as publisher:
        receipt = publisher.issued(type_code="road-permit", number="川A-000123",
                                   valid_from=date(2026, 1, 1), valid_until=date(2030, 12, 31),
                                   holder=("001", "91510100MA61RQ5X0J"))
        print(receipt.result())

Steps of a bundle: (1) it closes after its linger or at its size, (2) its note is signed, (3) it is
spooled and synced, (4) it is sent, (5) its receipt is checked, (6) refused events are written
down, futures resolve, (7) the spool lets go. A kill after (3) is made good at the next start:
the bundle is sent again and gets the same receipt. Before (3) nothing was sent.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, TypedDict, Unpack

import orjson

from ledger import identity, merkle, note, times
from ledger.bundle import (
    MAX_BUNDLE_NOTE,
    MAX_EVENTS,
    MAX_RECORD,
    Header,
    format_record,
    note_hash,
    parse_record,
)
from ledger.entry import ADMITTED
from ledger.errors import CODES, Conflict, LedgerError, Malformed, Refused, Unavailable
from ledger.event import parse_event
from ledger.logs import get_log
from ledger.receipt import NOTICE_FORM, RECEIPT_FORM, Receipt, parse_message, parse_receipt
from ledger.reliance import DECISION, is_reliance, parse_reliance

from .closing import Closing
from .config import PublisherConfig
from .lines import Day, Line, LineMaker
from .link import Link
from .relying import CASES, RelianceMaker, ReliedOn, Said
from .spool import LaneState, Spool, Spooled

log = get_log(__name__)

REPEAT = "repeat"
_ROOM = MAX_RECORD - MAX_BUNDLE_NOTE - 8  # bytes of lines with their newlines in one record
_RESEND_SECONDS = 1.0  # before a failed send, or the same wanted number, is answered again
_PATIENCE_SECONDS = 30.0  # without any receipt on a lane before its bundles are sent again
_MOST_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class EventReceipt:
    """What became of one event: `admitted`, `repeat` (admitted before) or a refusal's code.

    It is in log entry `index` at `position`, under a checkpoint whose signature was checked.
    """

    department: str
    event_id: str
    code: str
    index: int
    position: int

    @property
    def admitted(self) -> bool:
        """Whether the ledger holds the event."""
        return self.code in (ADMITTED, REPEAT)


Outcomes = Callable[[Sequence[EventReceipt]], None]


class Common(TypedDict, total=False):
    """What every typed call takes beside its own arguments; see `lines.PLAIN`."""

    issuer: str
    identifier: str
    claims: Mapping[str, str]
    private: Mapping[str, str]
    time: datetime
    recordedtime: datetime
    source: str
    record_key: str
    change_id: str
    reason: str


_COMMON = {
    "issuer": "issuing_authority_code",
    "identifier": "certificate_identifier",
    "reason": "reason_code",
}


@dataclass(slots=True)
class _Batch:
    """Events that will share a bundle."""

    born: float
    lines: list[bytes] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    futures: list[Future[EventReceipt]] = field(default_factory=list)
    disclosures: list[bytes] = field(default_factory=list)
    size: int = 0  # bytes
    replaces: bytes | None = None  # hash of the old note whose lines these are


@dataclass(slots=True)
class _Flight:
    """A spooled bundle that waits for its receipt."""

    spooled: Spooled
    ids: list[str]
    futures: list[Future[EventReceipt]]


@dataclass(slots=True)
class _Lane:
    number: int
    state: LaneState
    signing_time: int  # moment of the last note
    open: _Batch | None = None
    closed: deque[_Batch] = field(default_factory=deque)
    flights: OrderedDict[bytes, _Flight] = field(default_factory=OrderedDict)
    resend_from: int | None = None  # number from which to send again
    resend_at: float = 0.0
    last_wanted: tuple[int, float] = (-1, 0.0)
    progress_at: float = 0.0  # last receipt, or first send after a pause
    patience: float = _PATIENCE_SECONDS
    beat_at: float = 0.0
    sending: bool = False


class Publisher(Closing):
    """Publishes one department's events until it is closed.

    `take_over`: take lanes over from another producer or from a spool that was lost (otherwise
    Conflict `fenced`). `on_outcome` hears of every event, also of those an earlier process
    spooled, before the spool lets go of it; like callbacks of futures it runs in the thread that
    reads receipts and must neither wait nor publish. `link` may be shared by several publishers.
    Every lane without a bundle for `heartbeat_seconds` (default: a quarter of the silence limit
    that the department declared, at most five minutes) gets an empty one, which says that nothing
    happened; a lane that was silent for longer before, at once.
    Raises Conflict `spool-in-use`, Unavailable `unreachable` or `spool-failed`.
    """

    def __init__(
        self,
        config: PublisherConfig,
        bootstrap: str = "",
        *,
        link: Link | None = None,
        linger_seconds: float = 0.05,
        max_events: int = 1000,
        window: int = 20_000,
        take_over: bool = False,
        heartbeat_seconds: float | None = None,
        receipt_seconds: float = 60.0,
        start_seconds: float = 20.0,
        grace_seconds: float = 20.0,
        on_outcome: Outcomes | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        if not 1 <= max_events <= MAX_EVENTS:
            raise ValueError(f"max_events is from 1 to {MAX_EVENTS}")
        self.config = config
        self._linger = linger_seconds
        self._max_events = max_events
        self._window = window
        self._heartbeat = (
            config.heartbeat_seconds if heartbeat_seconds is None else heartbeat_seconds
        )
        self._receipt_seconds = receipt_seconds
        self._grace = grace_seconds
        self._on_outcome = on_outcome
        self._clock = clock
        self._maker = LineMaker(config, clock)
        self._reliances = RelianceMaker(config, clock)
        self._cond = threading.Condition()
        self._error: BaseException | None = None
        self._outstanding = 0  # events without a receipt
        self._resumed: dict[str, tuple[bytes, Future[EventReceipt]]] = {}
        self._suspected: dict[bytes, tuple[float, LedgerError]] = {}  # by note hash: until, then
        self._closing = self._closed = False
        self.rejected: LedgerError | None = None  # the last reason why events were not spooled
        self._lanes: list[_Lane] = []
        self._spool = Spool(config.folder / "spool")
        self._own_link = link is None
        try:
            self._link = link or Link(config.kafka_address(bootstrap))
            try:
                self._open_lanes(take_over, start_seconds)
            except BaseException:
                if self._own_link:
                    self._link.close()
                raise
        except BaseException:
            self._spool.close()
            raise
        self._link.listen(config.department, self._hear)
        self._thread = threading.Thread(
            target=self._run, name=f"publish-{config.department}", daemon=True
        )
        self._thread.start()

    # --- the calls -------------------------------------------------------------------------------

    def issued(
        self,
        type_code: str,
        number: str,
        *,
        valid_from: Day | None = None,
        valid_until: Day | None = None,
        holder: tuple[str, str] | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """新发: the certificate begins. Without `valid_from` it begins at `time`."""
        return self._say(
            "issued",
            type_code,
            number,
            common,
            valid_from=valid_from,
            valid_until=valid_until,
            holder=holder,
        )

    def renewed(
        self,
        type_code: str,
        number: str,
        *,
        valid_from: Day | None = None,
        valid_until: Day | None = None,
        holder: tuple[str, str] | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """延续: a new version with new dates."""
        return self._say(
            "renewed",
            type_code,
            number,
            common,
            valid_from=valid_from,
            valid_until=valid_until,
            holder=holder,
        )

    def amended(
        self,
        type_code: str,
        number: str,
        *,
        valid_from: Day | None = None,
        valid_until: Day | None = None,
        holder: tuple[str, str] | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """变更: a new version; dates that are left out stay as they were."""
        return self._say(
            "amended",
            type_code,
            number,
            common,
            valid_from=valid_from,
            valid_until=valid_until,
            holder=holder,
        )

    def suspended(
        self,
        type_code: str,
        number: str,
        *,
        valid_from: Day | None = None,
        valid_until: Day | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """暂扣, with a `reason`; it ends with `reinstated` or after `valid_until`."""
        return self._say(
            "suspended", type_code, number, common, valid_from=valid_from, valid_until=valid_until
        )

    def reinstated(
        self,
        type_code: str,
        number: str,
        *,
        valid_from: Day | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """暂扣发还: a suspension ends."""
        return self._say("reinstated", type_code, number, common, valid_from=valid_from)

    def revoked(
        self,
        type_code: str,
        number: str,
        kind: Literal["annulled", "penalty", "deregistered"],
        *,
        valid_from: Day | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """撤销 annulled, 吊销 penalty, 注销 deregistered: it ends for good."""
        return self._say(
            "revoked", type_code, number, common, valid_from=valid_from, revocation_kind=kind
        )

    def expired(
        self,
        type_code: str,
        number: str,
        *,
        valid_from: Day | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """过期失效, stated by the department; the dates alone say it too."""
        return self._say("expired", type_code, number, common, valid_from=valid_from)

    def transferred_out(
        self,
        type_code: str,
        number: str,
        to: str,
        *,
        valid_from: Day | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """转出 to department `to`."""
        return self._say(
            "transferred-out", type_code, number, common, valid_from=valid_from, transfer_to=to
        )

    def transferred_in(
        self,
        type_code: str,
        number: str,
        *,
        valid_from: Day | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """转入: this department is responsible from now on; `issuer` first issued it."""
        if "issuer" not in common:
            raise Malformed("malformed-event", "transferred_in needs the original issuer")
        return self._say("transferred-in", type_code, number, common, valid_from=valid_from)

    def corrected(
        self,
        type_code: str,
        number: str,
        corrects: str,
        correction: Literal["void", "restate", "confirm", "rewind"],
        *,
        valid_from: Day | None = None,
        valid_until: Day | None = None,
        **common: Unpack[Common],
    ) -> Future[EventReceipt]:
        """Puts event `corrects` right, with a `reason`: as if never said, or with other dates; or
        confirms it, where the key that signed it is doubted; or rewinds the certificate to before
        it, as if neither it nor anything since had been said.
        """
        return self._say(
            "corrected",
            type_code,
            number,
            common,
            valid_from=valid_from,
            valid_until=valid_until,
            corrects=corrects,
            correction=correction,
        )

    def relied(
        self,
        service: str,
        case: str,
        certificates: Sequence[ReliedOn],
        *,
        tree_size: int,
        use_for: str,
        clerk: str,
        lasts: str = DECISION,
        catalogue: str | None = None,
        change_id: str | None = None,
    ) -> Future[EventReceipt]:
        """The office relies on the ledger's answer about these certificates, under the checkpoint
        of `tree_size` leaves: for a `decision` taken once, or for an `entitlement` that goes on.

        Case number and clerk leave this machine as keyed hashes; which case stands behind them is
        kept in cases.ndjson. `catalogue` is the root of the one that the codes in `meets` are from.
        """
        return self._rely(
            self._reliances.relied(
                service,
                case,
                certificates,
                tree_size=tree_size,
                use_for=use_for,
                clerk=clerk,
                lasts=lasts,
                catalogue=catalogue,
                change_id=change_id,
            )
        )

    def ended(
        self, service: str, case: str, *, change_id: str | None = None
    ) -> Future[EventReceipt]:
        """The case rests on nothing any more: no recalls are wanted."""
        return self._rely(self._reliances.ended(service, case, change_id=change_id))

    def _rely(self, said: Said) -> Future[EventReceipt]:
        # A kill after this: the list has an act that was never sent, which harms nobody.
        self._write_down(CASES, said.kept)
        return self.publish_line(said.line)

    def _say(
        self, kind: str, type_code: str, number: str, common: Mapping[str, Any], **members: Any
    ) -> Future[EventReceipt]:
        plain: dict[str, Any] = {
            "event": kind,
            "certificate_type_code": type_code,
            "certificate_number": number,
        }
        plain.update((name, value) for name, value in members.items() if value is not None)
        for name, value in common.items():
            if value is not None:
                plain[_COMMON.get(name, name)] = value
        return self.publish(plain)

    def publish(self, plain: Mapping[str, Any]) -> Future[EventReceipt]:
        """Publish a plain event (`lines.PLAIN`); Malformed when it can be no line."""
        return self.publish_line(self._maker.make(plain))

    def make(self, plain: Mapping[str, Any]) -> Line:
        """The line of a plain event, for `publish_line`; nothing is published."""
        return self._maker.make(plain)

    def publish_line(self, made: Line) -> Future[EventReceipt]:
        """Publish a made line. Waits while the window of events without receipt is full."""
        with self._cond:
            if self._resumed:
                known = self._resumed.get(made.id)
                if known is not None and known[0] == sha256(made.line).digest():
                    del self._resumed[made.id]
                    return known[1]
            while self._outstanding >= self._window and self._error is None and not self._closing:
                self._cond.wait()
            if self._error is not None:
                raise self._error
            if self._closing:
                raise Unavailable("unreachable", "the publisher is closed")
            future = _Future()
            self._outstanding += 1
            lane = self._lanes[identity.lane_of(made.key, self.config.lanes)]
            batch = lane.open
            size = len(made.line) + 1
            if batch is not None and batch.size + size > _ROOM:
                lane.closed.append(batch)
                batch = None
            if batch is None:
                batch = lane.open = _Batch(time.monotonic())
                self._cond.notify_all()
            batch.lines.append(made.line)
            batch.ids.append(made.id)
            batch.futures.append(future)
            batch.size += size
            if made.disclosures:
                batch.disclosures.append(made.disclosures)
            if len(batch.lines) >= self._max_events:
                lane.closed.append(batch)
                lane.open = None
                self._cond.notify_all()
        return future

    # --- waiting and closing ---------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """Events without a receipt."""
        return self._outstanding

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Whether every event got its receipt in time; raises what stopped the publisher."""
        with self._cond:
            done = self._cond.wait_for(
                lambda: self._outstanding == 0 or self._error is not None, timeout_seconds
            )
            if self._error is not None:
                raise self._error
            return done

    def flush(self, timeout_seconds: float = 60.0) -> None:
        """Return when everything published is in the spool and in Kafka.

        Unavailable `unreachable` when Kafka did not take it in time: the spool keeps it.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._cond:
            while any(
                lane.open or lane.closed or lane.resend_from is not None or lane.sending
                for lane in self._lanes
            ):
                if self._error is not None:
                    raise self._error
                if not self._cond.wait(min(0.05, deadline - time.monotonic())) and (
                    time.monotonic() > deadline
                ):
                    raise Unavailable("unreachable", "Kafka does not take what is spooled")
        self._link.flush(max(deadline - time.monotonic(), 0.1))

    def close(self, timeout_seconds: float | None = None) -> None:
        """Send what is open, wait for receipts up to the limit, stop.

        Raises what stopped the publisher, or Unavailable `unreachable` when events have no
        receipt yet: they stay in the spool, and the next start sends them again.
        """
        if self._closed:
            return
        self._closed = True
        limit = self._receipt_seconds if timeout_seconds is None else timeout_seconds
        with self._cond:
            self._closing = True
            self._cond.notify_all()
        try:
            self._thread.join(limit)
            with self._cond:
                left, error = self._outstanding, self._error
            if error is None and left:
                error = Unavailable(
                    "unreachable",
                    f"{left} events of {self.config.department} have no receipt yet; they are "
                    "spooled, and the next start sends them again",
                )
                self._fail(error)
        except BaseException as err:  # a second Ctrl-C while waiting
            self._fail(err)
            raise
        finally:
            self._link.forget(self.config.department)
            self._thread.join(10)
            if self._own_link:
                self._link.close()
            self._spool.close()
        if error is not None:
            raise error

    # --- opening ---------------------------------------------------------------------------------

    def _open_lanes(self, take_over: bool, start_seconds: float) -> None:
        hints = self._hints(start_seconds)
        for number in range(self.config.lanes):
            state = self._lane_state(number, hints.get(number), take_over)
            signed = times.parse_moment(state.signed_at) if state.signed_at else 0
            age = max(self._clock() - signed, 0) / times.SECOND
            lane = _Lane(number, state, signed, beat_at=time.monotonic() - age)
            self._lanes.append(lane)
            if state.epoch and state is not self._spool.lanes.get(number):
                lane.closed.append(_Batch(0.0))  # an empty bundle fences the old producer now
        for spooled in self._spool.waiting():
            self._resume(spooled)
        for lane in self._lanes:
            if lane.flights:
                lane.resend_from = 0

    def _hints(self, start_seconds: float) -> dict[int, dict[str, Any]]:
        """The ledger's word on our lanes; waited for where the spool says nothing of a lane, or the
        ledger still tells of more lanes than our settings, on which events would go wrong ways.
        """
        deadline = time.monotonic() + start_seconds
        while True:
            hints = self._link.lanes(self.config.department)
            lacking = [
                number
                for number in range(self.config.lanes)
                if number not in hints and number not in self._spool.lanes
            ]
            told = max(hints, default=-1) + 1
            if not lacking and told <= self.config.lanes:
                return hints
            if time.monotonic() > deadline and not lacking:
                raise Conflict(
                    "fenced",
                    f"{self.config.department} has {told} lanes, the settings of "
                    f'{self.config.folder} say {self.config.lanes}: put "lanes": {told} into them',
                )
            if time.monotonic() > deadline:
                raise Unavailable(
                    "unreachable",
                    f"the ledger says nothing of lanes {lacking} of {self.config.department}: is "
                    "the department registered, is the ledger running?",
                )
            time.sleep(0.3)

    def _lane_state(self, number: int, hint: dict[str, Any] | None, take_over: bool) -> LaneState:
        own = self._spool.lanes.get(number)
        is_begun = hint is not None and (hint["next_sequence"], hint["producer"]) == (0, None)
        if hint is not None and is_begun and (own is None or hint["epoch"] > own.epoch):
            # by an entry of the registry: whoever comes first has it
            previous = bytes.fromhex(hint["previous"])
            return LaneState(hint["epoch"], _new_producer(), 0, previous, hint["signed_at"])
        if own is None:
            assert hint is not None
            reason = "and this spool knows nothing of it"
        elif hint is None or hint["epoch"] < own.epoch:
            return own
        elif hint["epoch"] > own.epoch or hint["producer"] not in (None, own.producer):
            reason = "and another producer has taken it over"
        elif hint["next_sequence"] > own.next_sequence:
            reason = f"and this spool is an older copy, at number {own.next_sequence}"
        else:
            return own
        if not take_over:
            raise Conflict(
                "fenced",
                f"lane {number} of {self.config.department} stands at epoch {hint['epoch']} number "
                f"{hint['next_sequence']}, {reason}: take it over (take_over=True) if no other "
                "process publishes for this department",
            )
        log.warning(
            "lane-taken-over", department=self.config.department, lane=number, reason=reason
        )
        return LaneState(
            hint["epoch"] + 1,
            _new_producer(),
            0,
            bytes.fromhex(hint["previous"]),
            hint["signed_at"],
        )

    def _resume(self, spooled: Spooled) -> None:
        """Take up a bundle of an earlier process, in new bundles when its lane or epoch is over:
        there may be another number of lanes.
        """
        bundle = parse_record(self._spool.read(spooled) or b"")
        header = spooled.header
        ids: list[str] = []
        futures: list[Future[EventReceipt]] = []
        for line in bundle.lines:
            event_id = str(orjson.loads(line)["id"])
            future: Future[EventReceipt] = _Future()
            self._resumed[event_id] = (sha256(line).digest(), future)
            ids.append(event_id)
            futures.append(future)
        self._outstanding += len(ids)
        lane = self._lanes[header.lane] if header.lane < len(self._lanes) else None
        if lane is not None and header.epoch == lane.state.epoch:
            lane.flights[spooled.note_hash] = _Flight(spooled, ids, futures)
            return
        again: dict[int, _Batch] = {}
        for line, event_id, future in zip(bundle.lines, ids, futures, strict=True):
            number = identity.lane_of(_key_of(line), self.config.lanes)
            batch = again.setdefault(number, _Batch(0.0, replaces=spooled.note_hash))
            batch.lines.append(line)
            batch.ids.append(event_id)
            batch.futures.append(future)
            batch.size += len(line) + 1
        if not again:  # a heartbeat
            again[min(header.lane, self.config.lanes - 1)] = _Batch(0.0, replaces=spooled.note_hash)
        # All go into one write of the spool, which lets go of the old bundle with it.
        for number, batch in again.items():
            self._lanes[number].closed.append(batch)

    # --- the sending thread ----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as err:
            if not isinstance(err, LedgerError):
                log.exception("publisher-stops", department=self.config.department)
            self._fail(err)

    def _step(self) -> bool:
        """One round of steps 1 to 4; False when there is nothing left to do."""
        with self._cond:
            while True:
                if self._error is not None:
                    return False
                now = time.monotonic()
                work = self._take_ready(now)
                again = self._take_resends(now)
                error = self._overdue(now)
                if work or again or error is not None:
                    for lane, _ in (*work, *again):
                        lane.sending = True
                    break
                if self._closing and self._outstanding == 0:
                    return False
                self._cond.wait(self._pause(now))
        if error is not None:
            raise error
        for lane, first in again:
            self._send_again(lane, first)
        if work:
            self._send_new(work)
        with self._cond:
            for lane in self._lanes:
                lane.sending = False
        return True

    def _take_ready(self, now: float) -> list[tuple[_Lane, _Batch]]:
        work: list[tuple[_Lane, _Batch]] = []
        for lane in self._lanes:
            work += [(lane, batch) for batch in lane.closed]
            lane.closed.clear()
            batch = lane.open
            if batch is not None and (self._closing or batch.born + self._linger <= now):
                work.append((lane, batch))
                lane.open = None
            if (
                not self._closing
                and batch is None
                and not lane.flights
                and lane.beat_at + self._heartbeat <= now
            ):
                work.append((lane, _Batch(now)))
        return work

    def _take_resends(self, now: float) -> list[tuple[_Lane, int]]:
        again = []
        for lane in self._lanes:
            if lane.flights and lane.progress_at and now - lane.progress_at > lane.patience:
                lane.patience = min(lane.patience * 2, _MOST_PATIENCE_SECONDS)
                lane.progress_at = now
                lane.resend_from = 0
            if lane.resend_from is not None and lane.resend_at <= now:
                again.append((lane, lane.resend_from))
                lane.resend_from = None
                lane.resend_at = now + _RESEND_SECONDS
        return again

    def _overdue(self, now: float) -> LedgerError | None:
        for text_hash, (until, error) in list(self._suspected.items()):
            if until <= now:
                del self._suspected[text_hash]
                if error.code != "lines-do-not-match-note":
                    return error
                for lane in self._lanes:  # damaged on the way: its number is still open
                    if text_hash in lane.flights:
                        lane.resend_from = lane.flights[text_hash].spooled.header.sequence
        return None

    def _pause(self, now: float) -> float:
        until = now + 0.5
        for lane in self._lanes:
            if lane.open is not None:
                until = min(until, lane.open.born + self._linger)
            if lane.resend_from is not None:
                until = min(until, lane.resend_at)
        return max(until - now, 0.001)

    def _send_new(self, work: list[tuple[_Lane, _Batch]]) -> None:
        states: dict[int, tuple[LaneState, int]] = {}
        records = []
        for lane, batch in work:
            state, signing_time = states.get(lane.number, (lane.state, lane.signing_time))
            record, after, signing_time = self._sign(lane.number, state, signing_time, batch)
            states[lane.number] = (after, signing_time)
            records.append(record)
        try:
            self._write_down(
                "disclosures.ndjson",
                b"".join(line for _, batch in work for line in batch.disclosures),
            )
            spooled = self._spool.write(
                records, [batch.replaces for _, batch in work if batch.replaces is not None]
            )
        except LedgerError as err:
            self._give_back(work, err)
            return
        # A kill here: spooled, not sent; the next start sends it.
        now = time.monotonic()
        with self._cond:
            for (lane, batch), place in zip(work, spooled, strict=True):
                lane.state, lane.signing_time = states[lane.number]
                lane.beat_at = now
                if not lane.flights:
                    lane.progress_at = now
                lane.flights[place.note_hash] = _Flight(place, batch.ids, batch.futures)
        for (lane, _), place, record in zip(work, spooled, records, strict=True):
            self._send(lane, place, record)

    def _sign(
        self, lane: int, state: LaneState, signing_time: int, batch: _Batch
    ) -> tuple[bytes, LaneState, int]:
        now = max(self._clock() // 1000 * 1000, signing_time)
        header = Header(
            origin=self.config.origin,
            department=self.config.department,
            lane=lane,
            epoch=state.epoch,
            sequence=state.next_sequence,
            count=len(batch.lines),
            root=merkle.root([sha256(b"\x00" + line).digest() for line in batch.lines]),
            producer=state.producer,
            previous=state.previous,
            signed_at=times.format_moment(now),
        )
        text = header.text()
        signed = note.sign(text, [self.config.signer])
        if len(signed) > MAX_BUNDLE_NOTE:
            raise Malformed("too-large", f"a bundle note of {len(signed)} bytes")
        after = LaneState(
            state.epoch, state.producer, state.next_sequence + 1, note_hash(text), header.signed_at
        )
        return format_record(signed, batch.lines), after, now

    def _give_back(self, work: list[tuple[_Lane, _Batch]], err: LedgerError) -> None:
        """Nothing of these was accepted: say so, or try later what an earlier process accepted."""
        with self._cond:
            self.rejected = err
            for lane, batch in reversed(work):
                if batch.replaces is not None:
                    lane.closed.appendleft(batch)
                else:
                    self._outstanding -= len(batch.lines)
            self._cond.notify_all()
        for _, batch in work:
            if batch.replaces is None:
                for future in batch.futures:
                    _reject(future, err)
        if any(batch.replaces is not None for _, batch in work):
            raise err

    def _send_again(self, lane: _Lane, first: int) -> None:
        with self._cond:
            flights = [f for f in lane.flights.values() if f.spooled.header.sequence >= first]
            if not lane.progress_at:
                lane.progress_at = time.monotonic()
        for flight in flights:
            record = self._spool.read(flight.spooled)
            if record is not None:
                self._send(lane, flight.spooled, record)

    def _send(self, lane: _Lane, spooled: Spooled, record: bytes) -> None:
        def failed(err: Exception) -> None:
            log.info("not-sent-yet", department=self.config.department, lane=lane.number, error=err)
            with self._cond:
                if spooled.note_hash in lane.flights:
                    number = spooled.header.sequence
                    lane.resend_from = _lower(lane.resend_from, number)
                    lane.resend_at = time.monotonic() + _RESEND_SECONDS
                    self._cond.notify_all()

        self._link.send(self.config.department, lane.number, record, failed)

    def _fail(self, err: BaseException) -> None:
        """Stop for good; what is spooled stays there for the next start."""
        with self._cond:
            if self._error is None:
                self._error = err
            futures = [future for _, future in self._resumed.values()]
            for lane in self._lanes:
                for batch in (*lane.closed, *((lane.open,) if lane.open else ())):
                    futures += batch.futures
                for flight in lane.flights.values():
                    futures += flight.futures
            self._cond.notify_all()
        for future in futures:
            _reject(future, err)

    # --- the receiving thread --------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        try:
            message = parse_message(data)
            if message["format"] == RECEIPT_FORM:
                receipt = parse_receipt(data, self.config.checkpoint_keys)
            elif message["format"] == NOTICE_FORM:
                self._take_notice(message)
                return
            else:
                return
        except (LedgerError, ValueError) as err:
            log.warning("receipt-refused", error=err)
            return
        try:
            self._take_receipt(receipt)
        except BaseException as err:
            self._fail(err)

    def _take_receipt(self, receipt: Receipt) -> None:
        header = receipt.header
        if header.department != self.config.department or header.lane >= len(self._lanes):
            return
        lane = self._lanes[header.lane]
        with self._cond:
            flight = lane.flights.get(receipt.note_hash)
        if flight is None or self._error is not None:
            return
        codes = _codes(receipt.outcome, header.count)
        results = [
            EventReceipt(header.department, event_id, code, receipt.index, position)
            for position, (event_id, code) in enumerate(zip(flight.ids, codes, strict=True))
        ]
        refused = [result for result in results if not result.admitted]
        if refused:
            self._write_down("refused.ndjson", self._refusals(flight.spooled, refused))
        if self._on_outcome is not None:
            self._on_outcome(results)
        for future, result in zip(flight.futures, results, strict=True):
            if not future.done():
                future.set_result(result)
        # A kill here: it is sent again, and the same receipt resolves it again.
        self._spool.release([receipt.note_hash])
        now = time.monotonic()
        with self._cond:
            del lane.flights[receipt.note_hash]
            self._suspected.pop(receipt.note_hash, None)
            self._outstanding -= len(codes)
            lane.progress_at = now
            lane.patience = _PATIENCE_SECONDS
            self._cond.notify_all()

    def _refusals(self, spooled: Spooled, refused: Sequence[EventReceipt]) -> bytes:
        lines = parse_record(self._spool.read(spooled) or b"").lines
        out = []
        for result in refused:
            try:
                said: Any = orjson.loads(lines[result.position])
            except ValueError:
                said = lines[result.position].decode("utf-8", "replace")
            row = {
                "department": result.department,
                "code": result.code,
                "index": result.index,
                "position": result.position,
                "line": said,
            }
            out.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        return b"".join(out)

    def _take_notice(self, notice: dict[str, Any]) -> None:
        number = notice.get("lane")
        if notice.get("department") != self.config.department or type(number) is not int:
            return
        if not 0 <= number < len(self._lanes):
            return
        text_hash = bytes.fromhex(str(notice.get("note_hash")))
        lane = self._lanes[number]
        code, message = str(notice.get("code")), str(notice.get("message"))
        now = time.monotonic()
        with self._cond:
            flight = lane.flights.get(text_hash)
            if flight is None:
                return
            if code == "out-of-sequence":
                self._wanted(lane, flight, notice, now)
                return
        if code in ("fenced", "equivocation"):
            kind = Conflict if code == "fenced" else Refused
            self._fail(kind(code, f"lane {self.config.department}/{number}: {message}"))
        elif code in CODES:
            # Anyone can send a copy of our note under a bad signature: only silence convicts.
            with self._cond:
                self._suspected.setdefault(
                    text_hash, (now + self._grace, CODES[code].error(code, message))
                )

    def _wanted(self, lane: _Lane, flight: _Flight, notice: dict[str, Any], now: float) -> None:
        epoch, number = notice.get("want_epoch"), notice.get("want_sequence")
        if type(epoch) is not int or type(number) is not int:
            return
        own = flight.spooled.header
        first = next(iter(lane.flights.values())).spooled.header.sequence
        if epoch != own.epoch:
            number = 0
        if (epoch == own.epoch and number < first) or (epoch != own.epoch and first > 0):
            # Either an old notice, or the ledger forgot what it gave a receipt for.
            self._suspected.setdefault(
                flight.spooled.note_hash,
                (
                    now + self._grace,
                    Conflict(
                        "out-of-sequence",
                        f"the ledger wants epoch {epoch} number {number} of lane "
                        f"{self.config.department}/{lane.number}; its receipt came and the "
                        "spool let go of it",
                    ),
                ),
            )
            return
        if lane.last_wanted[0] == number and now - lane.last_wanted[1] < _RESEND_SECONDS:
            return
        lane.last_wanted = (number, now)
        lane.resend_from = _lower(lane.resend_from, number)
        self._cond.notify_all()

    def _write_down(self, name: str, data: bytes) -> None:
        """Append to one of the department's own files, on disk when this returns."""
        if not data:
            return
        path = self.config.folder / name
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                end = os.fstat(handle).st_size
                if os.write(handle, data) != len(data):
                    os.ftruncate(handle, end)
                    raise OSError(28, "no space left for the whole of it")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as err:
            raise Unavailable("spool-failed", f"{path}: {err.strerror or err}") from err


def _key_of(line: bytes) -> bytes:
    """What decides the lane of a line of ours: its certificate's map key, or its reliance's."""
    if is_reliance(line):
        return parse_reliance(line, b"").key
    return parse_event(line, b"").key


class _Future(Future[EventReceipt]):
    def cancel(self) -> bool:
        return False  # what is spooled cannot be called back


def _reject(future: Future[EventReceipt], err: BaseException) -> None:
    if not future.done():
        future.set_exception(err)


def _lower(number: int | None, other: int) -> int:
    return other if number is None else min(number, other)


def _new_producer() -> str:
    return os.urandom(16).hex()


def _codes(outcome: Mapping[str, Iterable[int]], count: int) -> list[str]:
    """The code of each event of a bundle; the receipt's own check saw that it covers them."""
    codes = [""] * count
    for code, runs in outcome.items():
        spans = list(runs)
        for start, length in zip(spans[::2], spans[1::2], strict=True):
            codes[start : start + length] = [code] * length
    if len(codes) != count or "" in codes:
        raise Malformed("malformed-receipt", "the outcome does not cover the bundle")
    return codes
