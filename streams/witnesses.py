"""Step 7, the witnesses: who is asked for cosignatures, and when a checkpoint may be published.

One checkpoint at a time is the target that all witnesses are asked about, or they would never agree
on one. When the quorum has cosigned it, it is published and the newest signed one is the next
target. Each witness has a thread of its own: one that is slow or dead delays nobody else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.cosignature import SIGNATURE_BYTES
from ledger.errors import LedgerError, Malformed, ProofError, Refused, Unavailable
from ledger.logs import get_log
from ledger.note import (
    MAX_NOTE,
    MAX_SIGNATURES,
    CheckingKey,
    Signature,
    format_lines,
    parse_note,
)
from ledger.policy import Policy, Witness
from ledger.witnessing import (
    MAX_ANSWER,
    add_signatures,
    format_request,
    parse_answer,
    parse_size,
)

from .witness_http import Answer, Endpoint

log = get_log(__name__)

REQUEST_SECONDS = 5.0
COMPARE_SECONDS = 8.0  # with a witness at the start: an idle sequencer loses its lead after 15 s
TARGET_SECONDS = 10.0  # after which who has not answered does not count for this target
RETRY_SECONDS = 1.0  # before a target without its quorum is given up for the newest one
TIME_TOLERANCE_SECONDS = 300  # how far a witness's time may be from ours
REPEAT_LOG_SECONDS = 60.0
MAX_WITNESSES = MAX_SIGNATURES - 4
MAX_LINES_BYTES = MAX_NOTE - 8 * 1024

Prove = Callable[[int, int], Sequence[bytes]]
"""The consistency proof between two sizes of our tree."""
RootAt = Callable[[int], bytes | None]
"""Our root at a size, None beyond our tree as it is now."""


@dataclass(frozen=True, slots=True)
class WitnessState:
    """How a witness stands: what it cosigned last, and what it said no with since."""

    name: str
    size: int | None
    seconds: int | None  # of that cosignature's time
    problem: str | None


@dataclass
class _Target:
    size: int
    note: bytes
    text: bytes
    since: float
    signatures: dict[str, Signature] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    done: bool = False


class Witnesses:
    """The configured witnesses. `offer` and `take` are the sequencer's; nothing of theirs waits."""

    def __init__(self, policy: Policy, prove: Prove, root_at: RootAt) -> None:
        """Malformed `usage` where a witness has no URL that can be asked, or where all their
        cosignatures would not go into one note.
        """
        lines = [_widest_line(witness) for witness in policy.witnesses]
        if len(lines) > MAX_WITNESSES or sum(map(len, lines)) > MAX_LINES_BYTES:
            raise Malformed("usage", f"{len(lines)} witnesses are too many for one note")
        self._policy = policy
        self._prove = prove
        self._root_at = root_at
        self._asked = [_Asked(witness, Endpoint(witness.url)) for witness in policy.witnesses]
        self._condition = threading.Condition()
        self._target: _Target | None = None
        self._newest: tuple[int, bytes] | None = None
        self._kept: tuple[int, bytes] | None = None  # the newest one with maps, when it is older
        self._ready: tuple[int, bytes] | None = None
        self._keys: Sequence[CheckingKey] = ()
        self._alarm: LedgerError | None = None
        self._wanting_since: float | None = None
        self._said_at = 0.0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(asked,), daemon=True, name=asked.name)
            for asked in self._asked
        ]

    # --- the sequencer's side ---

    def compare(
        self, size: int, kept: tuple[int, bytes] | None, keys: Sequence[CheckingKey]
    ) -> list[str]:
        """The start-up comparison (D12) with every witness that can be reached: Refused
        `going-back` where one has seen more than this database, or another history. The names of
        those that could not be compared with.

        `size` is our tree's, `kept` the largest checkpoint that was signed here, `keys` all that
        ever signed checkpoints.
        """
        self._keys = keys
        compared: list[bool] = []
        if self._asked:
            with ThreadPoolExecutor(len(self._asked)) as pool:
                compared += pool.map(lambda asked: self._compare(asked, size, kept), self._asked)
        for thread in self._threads:
            thread.start()
        return [a.name for a, done in zip(self._asked, compared, strict=True) if not done]

    def offer(self, size: int, note: bytes, maps: bool = False) -> None:
        """A checkpoint that was signed, kept and written: the newest to be published. One with the
        status maps' roots is not passed over for a later one without: answers rest on it.
        """
        with self._condition:
            self._newest = size, note
            if maps:
                self._kept = size, note
            if self._target is None or self._target.done:
                self._aim()

    def take(self) -> tuple[int, bytes] | None:
        """A checkpoint whose quorum has cosigned, with its signatures, once; None while there is
        none. Refused `going-back` when a witness proved that this ledger signed another history.
        """
        with self._condition:
            if self._alarm is not None:
                raise self._alarm
            self._give_up()
            ready, self._ready = self._ready, None
            return ready

    def wait(self, seconds: float) -> None:
        """Return when there may be something to take, at the latest after `seconds`."""
        with self._condition:
            if self._ready is None and self._alarm is None:
                self._condition.wait(seconds)

    def states(self) -> list[WitnessState]:
        """How each witness stands."""
        with self._condition:
            return [asked.state() for asked in self._asked]

    def close(self) -> None:
        """Let the threads end; what they wait for is not waited for."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread, asked in zip(self._threads, self._asked, strict=True):
            if thread.ident is None:
                asked.endpoint.close()

    # --- targets; the condition is held ---

    def _aim(self) -> None:
        chosen = self._kept or self._newest
        if chosen is None:
            return
        size, note = chosen
        self._kept = None
        if self._newest == chosen:
            self._newest = None
        self._target = _Target(size, note, parse_note(note).text, time.monotonic())
        self._condition.notify_all()
        self._decide(self._target)

    def _decide(self, target: _Target) -> None:
        if target.done or not self._policy.is_met(target.signatures):
            return
        target.done = True
        signatures = [
            target.signatures[w.name] for w in self._policy.witnesses if w.name in target.signatures
        ]
        self._ready = target.size, add_signatures(target.note, signatures)
        if self._wanting_since is not None:
            log.info("quorum-again", size=target.size)
            self._wanting_since = None
        self._condition.notify_all()
        self._aim()

    def _give_up(self) -> None:
        """Take the newest for the target, or ask about the same again, when no quorum will come."""
        target, now = self._target, time.monotonic()
        if target is None or target.done:
            return
        everybody = {asked.name for asked in self._asked}
        settled = target.failed | target.signatures.keys() >= everybody
        age = now - target.since
        if not (settled and age > RETRY_SECONDS) and age <= TARGET_SECONDS:
            return
        if self._wanting_since is None:
            self._wanting_since = target.since
        if now - self._said_at > REPEAT_LOG_SECONDS or self._wanting_since == target.since:
            self._said_at = now
            missing = "; ".join(
                f"{asked.name}: {asked.problem or 'no answer yet'}"
                for asked in self._asked
                if asked.name not in target.signatures
            )
            log.error(
                "quorum-missing",
                cosigned=len(target.signatures),
                witnesses=len(self._asked),
                size=target.size,
                seconds=round(now - self._wanting_since),
                problems=missing,
            )
        if self._kept is not None or self._newest is not None:
            self._aim()
        else:
            target.failed.clear()
            target.since = now
            self._condition.notify_all()

    # --- one thread per witness ---

    def _work(self, asked: _Asked) -> None:
        while True:
            with self._condition:
                while not self._closed and not self._is_due(asked):
                    self._condition.wait()
                if self._closed or self._target is None:
                    asked.endpoint.close()
                    return
                target = self._target
            signature: Signature | None = None
            problem = ""
            try:
                signature = self._ask(asked, target.size, target.note, target.text)
            except LedgerError as err:
                problem = f"{err.code}: {err.message}"
                if err.code == "going-back":
                    with self._condition:
                        self._alarm = err
            except Exception as err:
                log.exception("witness-failed", witness=asked.name)
                problem = f"{type(err).__name__}: {err}"
            with self._condition:
                asked.note(target.size, signature, problem)
                if signature is None:
                    target.failed.add(asked.name)
                else:
                    target.signatures[asked.name] = signature
                    if target is self._target:
                        self._decide(target)
                self._condition.notify_all()

    def _is_due(self, asked: _Asked) -> bool:
        target = self._target
        return (
            target is not None
            and asked.name not in target.signatures
            and asked.name not in target.failed
        )

    def _ask(self, asked: _Asked, size: int, note: bytes, text: bytes) -> Signature:
        """The witness's cosignature; ProofError `witness-refused` or Unavailable otherwise, Refused
        `going-back` where it proves that the ledger signed more or otherwise than we know.
        """
        answer = self._submit(asked, size, note)
        if answer.status == 409:
            theirs = parse_size(answer.body)
            if theirs > size:
                self._look(asked)
                raise ProofError("witness-refused", f"it says that it has seen size {theirs}")
            asked.size = theirs
            answer = self._submit(asked, size, note)
        if answer.status == 422:
            self._look(asked)
        if answer.status != 200:
            raise ProofError("witness-refused", _said(answer))
        now = int(time.time())
        key = asked.witness.key
        signature = parse_answer(answer.body, text, key, now, TIME_TOLERANCE_SECONDS)
        asked.size = size
        return signature

    def _submit(self, asked: _Asked, size: int, note: bytes) -> Answer:
        old = min(asked.size, size)
        proof = self._prove(old, size) if old else []
        body = format_request(old, proof, note)
        return asked.request("POST", "/add-checkpoint", body)

    def _look(self, asked: _Asked) -> bool:
        """Whether the witness shows a checkpoint of our tree that our own key signed. Refused
        `going-back` where it shows a signed one that is not of our tree; what it only says proves
        nothing.
        """
        shown = self._fetch(asked)
        if shown is None:
            return False
        if self._root_at(shown.size) != shown.root:
            raise Refused(
                "going-back",
                f"the witness {asked.name} shows a signed checkpoint of size {shown.size} that is "
                "not of this database's tree",
            )
        return True

    def _fetch(self, asked: _Asked) -> Checkpoint | None:
        """The checkpoint that the witness serves, when our own key signed it."""
        digest = sha256(self._keys[0].name.encode()).hexdigest() if self._keys else ""
        try:
            answer = asked.request("GET", f"/{digest}/checkpoint", None)
            if answer.status != 200:
                return None
            checkpoint, note = parse_checkpoint(answer.body)
        except LedgerError:
            return None
        for key in self._keys:
            if checkpoint.origin == key.name and note.by(key) is not None:
                try:
                    note.check_signed_by(key)
                except LedgerError:
                    continue
                return checkpoint
        return None

    def _compare(self, asked: _Asked, size: int, kept: tuple[int, bytes] | None) -> bool:
        """Whether the witness could be compared with."""
        asked.until = time.monotonic() + COMPARE_SECONDS
        try:
            if kept is None:
                return self._look(asked)
            answer = self._submit(asked, *kept)
            if answer.status == 409:
                theirs = parse_size(answer.body)
                if theirs > kept[0]:
                    if not self._look(asked) or theirs > size:
                        raise Refused(
                            "going-back",
                            f"the witness {asked.name} cosigned size {theirs}, the largest that "
                            f"was signed here is {kept[0]} and this database has {size} leaves",
                        )
                    asked.size = theirs
                    return True
                asked.size = theirs
                answer = self._submit(asked, *kept)
            if answer.status == 422:
                raise Refused(
                    "going-back",
                    f"the witness {asked.name} cosigned another history: size {kept[0]} here does "
                    f"not extend its {asked.size}",
                )
            if answer.status != 200:
                raise ProofError("witness-refused", _said(answer))
            asked.size = kept[0]
            return True
        except (ProofError, Unavailable) as err:
            log.warning("witness-not-compared", witness=asked.name, error=err)
            return False
        finally:
            asked.until = None


class _Asked:
    """One witness: the size it is known to have cosigned, and how it stands."""

    def __init__(self, witness: Witness, endpoint: Endpoint) -> None:
        self.witness = witness
        self.endpoint = endpoint
        self.size = 0
        self.problem: str | None = None
        self.until: float | None = None  # all answers are needed by then
        self._last: tuple[int, int] | None = None
        self._said_at = 0.0

    @property
    def name(self) -> str:
        return self.witness.name

    def request(self, method: str, path: str, body: bytes | None) -> Answer:
        """The witness's answer, in time."""
        seconds = REQUEST_SECONDS
        if self.until is not None:
            seconds = max(min(seconds, self.until - time.monotonic()), 0.1)
        return self.endpoint.request(method, path, body, seconds, MAX_ANSWER)

    def state(self) -> WitnessState:
        size, seconds = self._last or (None, None)
        return WitnessState(self.name, size, seconds, self.problem)

    def note(self, size: int, signature: Signature | None, problem: str) -> None:
        """Remember an answer; say it when it is another than before, and now and then."""
        if signature is not None:
            self._last = size, int.from_bytes(signature.signature[:8], "big")
            if self.problem is not None:
                log.info("witness-again", witness=self.name)
            self.problem = None
            return
        now = time.monotonic()
        if self.problem != problem or now - self._said_at > REPEAT_LOG_SECONDS:
            self._said_at = now
            log.warning("witness-problem", witness=self.name, problem=problem)
        self.problem = problem


def _widest_line(witness: Witness) -> bytes:
    raw = bytes(8 + SIGNATURE_BYTES[witness.key.kind])
    return format_lines([Signature(witness.key.name, witness.key.key_hash, raw)])


def _said(answer: Answer) -> str:
    text = answer.body[:120].decode("ascii", "replace").strip()
    return f"HTTP {answer.status}: {text}"
