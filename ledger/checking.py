"""Checking evidence offline: the seven named checks, then what the history says.

Standard library, `cryptography` and our own code only; no clock, no network: `now` is handed in.
Nothing in an evidence file is trusted; every check passes, fails with a sentence, or says why it
was not made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

from . import entry as entries
from . import identity, lifecycle, merkle, times
from .bundle import Header, bundle_key_name, parse_header
from .checkpoint import Checkpoint, parse_checkpoint
from .cosignature import short_name
from .doubt import Doubts
from .entry import parse_entry
from .errors import LedgerError, Malformed, ProofError, Unavailable
from .event import CORRECTED, ISSUED, TRANSFERRED_IN, parse_shown
from .evidence import Beginning, CertificateId, Evidence, Shown, ShownEvent, Step, parse_evidence
from .finding import INCOMPLETE, UNCLEAR, find
from .lifecycle import Standing, Transition, make_transition
from .note import Note, VerifierKey, parse_note, parse_vkey
from .policy import NONE as NO_QUORUM
from .question import NOW, Question, format_instant, parse_when
from .records import parse_record
from .registry import (
    BUNDLE_ROLE,
    doubts_of,
    granted,
    key_active,
    lanes_at,
    tree_place,
)
from .statusmap import CERTIFICATES, check_membership
from .trust import Trust
from .verdict import (
    AUTHORITY,
    CHECKPOINT,
    DISCLOSURES,
    EVENT_SIGNATURE,
    FAILED,
    FRESHNESS,
    INCLUSION,
    NAMES,
    NOT_CHECKED,
    PASSED,
    STATUS,
    Answer,
    Check,
    Found,
    decide,
    undecided,
    unread,
)
from .vouching import Vouching, check_logged, explain_keys, explain_recovery, find_recoveries

STALE, SILENT, DISAGREEING = "checkpoint-stale", "issuer-silent", "witness-times-disagree"
ANOTHER = "another-certificate"
CLOCK_TOLERANCE = 300 * times.SECOND  # how far the ledger's time may be ahead of the verifier's


def check_file(
    data: bytes,
    trust: Trust,
    now: int,
    *,
    at: str | None = None,
    known_at: str | None = None,
    version: int | None = None,
    relied_at: str | None = None,
    as_asked: bool = False,
    type_code: str | None = None,
    issuer: str | None = None,
    number: str | None = None,
) -> Answer:
    """The answer that an evidence file supports under a trust file at `now`, to the caller's
    question: what is left out asks about now, all that is known, any version. The question in the
    file counts only when `as_asked` says so: whoever hands in a file does not choose what is asked.
    About a certificate of another type, issuer or number than those given nothing is decided.
    Any bytes give an answer; Malformed only for moments that cannot be understood.
    """
    try:
        evidence = parse_evidence(data)
    except LedgerError as err:
        return unread(err.message)
    other = _another(evidence.certificate, type_code, issuer, number)
    if other is not None:
        return other
    zone = Examination(evidence, trust, now).zone
    try:
        question = evidence.question if as_asked else Question(now)
        if at is not None:
            question = replace(question, at=_when(at, zone))
        if known_at is not None:
            question = replace(question, known_at=_when(known_at, zone))
        if version is not None:
            question = replace(question, version=version)
        relied = None if relied_at is None else _when(relied_at, zone)
    except Malformed:
        # A file that proves nothing does not get to say that the question is at fault.
        own = check(evidence, trust, now)
        if own.refused is not None:
            return own
        raise
    answer = check(replace(evidence, question=question), trust, now, relied)
    made_for = evidence.question
    if answer.refused is None and made_for.asks != question.asks:
        options = made_for.options() or "no --at, --known-at and --version"
        note = f"the file was made for another question, which {options} or --as-asked asks"
        answer = replace(answer, file_question=made_for, notes=(*answer.notes, note))
    return answer


def check(evidence: Evidence, trust: Trust, now: int, relied_at: int | None = None) -> Answer:
    """The answer to the question in parsed evidence; freshness is judged as of `relied_at`."""
    return Examination(evidence, trust, now, relied_at).answer()


class Examination:
    """One look at one evidence file. Its properties raise LedgerError where the file is bad."""

    def __init__(
        self, evidence: Evidence, trust: Trust, now: int, relied_at: int | None = None
    ) -> None:
        self.evidence = evidence
        self.trust = trust
        self.reference = now if relied_at is None else relied_at
        self.history = [step.transition for step in evidence.history]
        self.shown = {event.ordinal: event for event in evidence.events}
        self._notes: dict[int, tuple[Note, Header]] = {}
        question = evidence.question
        self.at = self.reference if question.at is None else question.at

    def answer(self) -> Answer:
        """All checks, then what they leave of the finding."""
        evidence = self.evidence
        checks = judge(
            {
                EVENT_SIGNATURE: self._event_signature,
                AUTHORITY: self._authority,
                INCLUSION: self._inclusion,
                CHECKPOINT: self._checkpoint,
                STATUS: self._status,
                FRESHNESS: self._freshness,
            }
        )
        found: Found | None = None
        trusted = any(c.name == CHECKPOINT and c.result == PASSED for c in checks)
        if trusted and all(c.result != FAILED for c in checks if c.name != FRESHNESS):
            found = find(evidence, self.bundles, self.ledger_time, self.at, self.doubts)
        answer, reason, why = decide(checks, found)
        certificate = evidence.certificate
        return Answer(
            answer=answer,
            reason=reason,
            checks=checks,
            why=why,
            type_code=certificate.type_code,
            issuer=certificate.issuer,
            number=certificate.number,
            found=found,
            question=replace(evidence.question, at=self.at),
            tree_size=None if found is None else self.unchecked_checkpoint.size,
            ledger_time=None if found is None else self.ledger_time,
            names={} if found is None else self._names(found, certificate),
            issuer_freshness=None if found is None else self._issuer_freshness(),
        )

    # --- parts of the file, parsed once ---

    @cached_property
    def unchecked_checkpoint(self) -> Checkpoint:
        """The checkpoint, whoever signed it: the other checks say what they find under it."""
        return parse_checkpoint(self.evidence.checkpoint)[0]

    @cached_property
    def status_entry(self) -> dict[str, Any]:
        return read_status_entry(self.evidence.status, self.unchecked_checkpoint)

    @cached_property
    def ledger_time(self) -> int:
        return times.parse_moment(self.status_entry["time"])

    @cached_property
    def entries(self) -> dict[int, dict[str, Any]]:
        """The shown entries by log index."""
        return {shown.index: _parse_shared(shown.data) for shown in self.evidence.entries}

    @cached_property
    def bundles(self) -> dict[int, dict[str, Any]]:
        """Those of them that are bundles'."""
        return {n: entry for n, entry in self.entries.items() if entry["kind"] == entries.BUNDLE}

    @cached_property
    def then(self) -> dict[str, Any] | None:
        """The status entry known at `known_at`, None where none is shown."""
        then = self.evidence.status_then
        return None if then is None else parse_entry(then.data)

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """The shown registry records by name; whether the registry holds them is not asked here."""
        parsed = {}
        for shown in self.evidence.records:
            record = parse_record(shown.data)
            parsed[record["name"]] = record["value"]
        return parsed

    @property
    def doubts(self) -> Doubts:
        """The doubted keys among those shown."""
        return doubts_of({"name": name, "value": v} for name, v in self.records.items())

    @cached_property
    def standings(self) -> list[Standing]:
        """The standing before each transition and after the last one, by the rules of admission."""
        standing = Standing()
        standings, ids = [standing], set()
        for ordinal, t in enumerate(self.history):
            if t.id in ids:
                raise ProofError("proof-failed", f"two events have the id {t.id[:32]}")
            ids.add(t.id)
            version = lifecycle.next_version(standing, t.kind)
            if t.kind == ISSUED and t.by != self.evidence.certificate.issuer:
                raise ProofError("proof-failed", f"{t.by[:63]} cannot issue in another's name")
            if t.kind == TRANSFERRED_IN and t.by != standing.transfer_to:
                raise ProofError("proof-failed", f"the transfer was not to {t.by[:63]}")
            if t.kind == CORRECTED:
                standing = lifecycle.correct(self.history[:ordinal], t)
                version = standing.version
            else:
                standing = lifecycle.step(standing, t)
            if t.version != version:
                raise ProofError(
                    "proof-failed", f"event {t.id[:32]} gives version {t.version}, not {version}"
                )
            standings.append(standing)
        return standings

    @property
    def zone(self) -> str | None:
        """The issuer's time zone as the file says it; None where it does not."""
        try:
            record = self.records.get(f"department/{self.evidence.certificate.issuer}")
        except LedgerError:
            return None
        return None if record is None else record["time_zone"]

    def _known_record(self, name: str) -> dict[str, Any] | None:
        return self.records.get(name)

    def _record(self, name: str) -> dict[str, Any]:
        record = self._known_record(name)
        if record is None:
            raise ProofError("proof-failed", f"the registry's record {name[:100]!r} is not shown")
        return record

    def _step(self, event: ShownEvent) -> Step:
        return self.evidence.history[event.ordinal]

    def _bundle(self, index: int) -> dict[str, Any]:
        bundle = self.bundles.get(index)
        if bundle is None:
            raise ProofError("proof-failed", f"no bundle is shown at entry {index}")
        return bundle

    def _note(self, index: int) -> tuple[Note, Header]:
        """The note of the bundle at a log index, whoever signed it."""
        if index not in self._notes:
            self._notes[index] = _parse_bundle_note(self._bundle(index)["note"])
        return self._notes[index]

    # --- the checks ---

    def _event_signature(self) -> Check:
        if not self.history:
            return _without_events(EVENT_SIGNATURE)
        if not self.evidence.events:
            raise ProofError("proof-failed", "no event is shown")
        signed: set[tuple[int, str]] = set()
        for event in self.evidence.events:
            step = self._step(event)
            note, header = self._note(step.index)
            self._check_event(event, step, header)
            key = parse_vkey(self._record(f"key/{step.transition.key}")["vkey"])
            if (step.index, step.transition.key) not in signed:
                self._check_key(key, note, header, step)
                signed.add((step.index, step.transition.key))
        return passed(
            EVENT_SIGNATURE,
            f"{len(self.evidence.events)} of {len(self.history)} events shown, each in a bundle "
            "that its department signed",
            events=[
                {
                    "id": self._step(e).transition.id,
                    "bundle": self._note(self._step(e).index)[0].text.decode().split("\n", 1)[0],
                    "position": self._step(e).position,
                    "key": self._step(e).transition.key,
                }
                for e in self.evidence.events
            ],
        )

    def _check_event(self, event: ShownEvent, step: Step, header: Header) -> None:
        line_hash = merkle.leaf_hash(event.line)
        item = parse_shown(event.line, line_hash)
        certificate = self.evidence.certificate
        if item.key != certificate.key:
            raise ProofError("proof-failed", f"event {item.id} is about another certificate")
        if line_hash != step.line_hash:
            raise ProofError("proof-failed", f"the line of event {event.ordinal} was altered")
        if header.origin != self.evidence.origin:
            raise ProofError("proof-failed", f"the bundle was signed for {header.origin[:120]!r}")
        t = step.transition
        if header.department != t.by:
            raise ProofError("proof-failed", f"the bundle is by {header.department}, not {t.by}")
        merkle.check_inclusion(line_hash, step.position, header.count, event.path, header.root)
        if make_transition(item, t.by, t.key, t.version) != t:
            raise ProofError("proof-failed", f"the history says other than event {item.id}")
        if item.identifier is not None:  # its codes are the registry's of then, not of today
            said = identity.parse_identifier(item.identifier)
            if (said.serial, said.version) != (item.number, t.version):
                raise ProofError("proof-failed", f"the identifier in event {item.id} is another's")

    def _check_key(self, key: VerifierKey, note: Note, header: Header, step: Step) -> None:
        if key.key_id != step.transition.key:
            raise ProofError("proof-failed", "a key's record has another key's name")
        if key.name != bundle_key_name(header.origin, header.department):
            raise ProofError("proof-failed", f"{key.name[:120]!r} does not sign these bundles")
        note.check_signed_by(key)

    def _authority(self) -> Check:
        check_records(self.evidence.records, self.evidence.registry_size, self.status_entry)
        certificate = self.evidence.certificate
        why = "there is no event: the records shown are in the registry under this checkpoint"
        if self.history:
            self._record(f"department/{certificate.issuer}")
            type_value = self._record(f"type/{certificate.type_code}")
            for event in self.evidence.events:
                self._check_authority(event.ordinal, self._step(event), type_value)
        signers = {self._step(event).transition.key: None for event in self.evidence.events}
        keys = Vouching(
            self.evidence, self.records, self.trust.operator, self.unchecked_checkpoint
        ).trace(signers)
        if keys:
            why = explain_keys(keys)
        recoveries = self._recoveries()
        why += "".join(f"; {explain_recovery(each)}" for each in recoveries)
        return passed(
            AUTHORITY,
            why,
            registry_root=self.status_entry["registry_root"],
            records=sorted(self.records),
            keys=keys,
            **({"recoveries": recoveries} if recoveries else {}),
        )

    def _recoveries(self) -> list[dict[str, Any]]:
        """The recoveries that are announced for the departments that the answer rests on."""
        acting = (self._step(event).transition.by for event in self.evidence.events)
        names = (self.evidence.certificate.issuer, self._responsible(), *acting)
        return find_recoveries(names, self.records.get)

    def _check_authority(self, ordinal: int, step: Step, type_value: Mapping[str, Any]) -> None:
        t = step.transition
        key = self._record(f"key/{t.key}")
        if key["department"] != t.by or key["role"] != BUNDLE_ROLE:
            raise ProofError("proof-failed", f"the key of event {t.id} is not {t.by}'s for bundles")
        if not key_active(key, step.index):
            raise ProofError(
                "proof-failed", f"the key of event {t.id} was not valid at log index {step.index}"
            )
        lanes = lanes_at(self._record(f"department/{t.by}"), step.index)
        header = self._note(step.index)[1]
        if header.lane != identity.lane_of(self.evidence.certificate.key, lanes):
            raise ProofError("proof-failed", f"event {t.id} is on the wrong lane of {t.by}")
        scope = granted(type_value, t.by, t.kind, step.index)
        if scope is None:
            raise ProofError(
                "proof-failed", f"{t.by} had no right to {t.kind} for this type at {step.index}"
            )
        if t.kind not in (ISSUED, TRANSFERRED_IN) and scope != "any":
            owner = self._owner(ordinal, t)
            if owner != t.by:
                raise ProofError("proof-failed", f"event {t.id} was {owner}'s to make")

    def _owner(self, ordinal: int, t: Transition) -> str:
        """Whose act this is where only one's own is granted: the responsible department's, but a
        correction of another department's act is that department's, and so is a confirmation of
        any act (as admission has it).
        """
        responsible = self.standings[ordinal].responsible
        if t.kind == CORRECTED:
            return lifecycle.corrector(self.history[:ordinal], t, responsible)
        return responsible

    def _inclusion(self) -> Check:
        if not self.history:
            return _without_events(INCLUSION)
        checkpoint = self.unchecked_checkpoint
        for shown in self.evidence.entries:
            check_logged(shown, checkpoint)
        for ordinal in self.shown:
            step = self.evidence.history[ordinal]
            code = entries.code_at(self._bundle(step.index)["outcome"], step.position)
            if code != entries.ADMITTED:
                raise ProofError("proof-failed", f"event {step.transition.id} got outcome {code}")
        return passed(
            INCLUSION,
            "the bundles are in the log under the checkpoint, and these events were admitted",
            entries=[
                {"index": shown.index, "leaf_hash": merkle.leaf_hash(shown.data).hex()}
                for shown in self.evidence.entries
            ],
        )

    def _checkpoint(self) -> Check:
        evidence = self.evidence
        return judge_checkpoint(
            evidence.origin, evidence.checkpoint, evidence.genesis, evidence.status, self.trust
        )

    def _status(self) -> Check:
        status = self.status_entry
        self._check_then()
        self._check_times()
        record = self._record_hash()
        heads = entries.map_heads(status)
        if heads is None:
            raise ProofError(
                "proof-failed", f"the status entry {self.evidence.status.index} carries no maps"
            )
        head = heads[CERTIFICATES]
        key = self.evidence.certificate.key
        try:
            check_membership(head.root, CERTIFICATES, head.k, key, record, self.evidence.bucket)
        except ProofError as err:
            said = "the certificate's complete history" if self.history else "its absence"
            raise ProofError(
                "proof-failed", f"the status map does not show {said}: {err.message}"
            ) from err
        values = {
            "reflects": status["reflects"],
            "ledger_time": status["time"],
            "events": len(self.history),
            "map_key": key.hex(),
            "k": head.k,
            "map_root": head.root.hex(),
        }
        why = (
            "this is the certificate's complete history under this checkpoint"
            if self.history
            else "the ledger holds no such certificate under this checkpoint"
        )
        return passed(STATUS, why, **values)

    def _check_then(self) -> None:
        then, entry = self.evidence.status_then, self.then
        if then is None or entry is None:
            return
        if entry["kind"] != entries.STATUS or entry["reflects"] != then.index:
            raise ProofError("proof-failed", f"entry {then.index} is no state of all before it")
        if then.index >= self.evidence.status.index:
            raise ProofError("proof-failed", "the earlier status entry is not earlier")
        check_logged(then, self.unchecked_checkpoint)

    def _check_times(self) -> None:
        """Ledger times never decrease: else an entry could deny that a state before it held it."""
        told = {index: entry["time"] for index, entry in self.entries.items()}
        told |= {shown.index: shown.time for shown in self.evidence.registrations}
        told |= {each.index: each.time for each in self.evidence.announcements}
        if self.evidence.status_then is not None and self.then is not None:
            told[self.evidence.status_then.index] = self.then["time"]
        told[self.evidence.status.index] = self.status_entry["time"]
        for (one, before), (other, after) in pairwise(sorted(told.items())):
            if times.parse_moment(before) > times.parse_moment(after):
                raise ProofError(
                    "proof-failed", f"entry {other} has an earlier ledger time than entry {one}"
                )

    def _record_hash(self) -> bytes | None:
        """What the map must hold: the hash of the record folded from all transitions, None for no
        history.
        """
        link = self._link()
        if not self.history:
            return None
        return lifecycle.record_hash(self.standings[-1].record(link))

    def _link(self) -> bytes:
        """The last link of the history, which must be in ledger order and below the status."""
        evidence = self.evidence
        link = evidence.certificate.key
        place = (-1, -1)
        for step in evidence.history:
            if (step.index, step.position) <= place:
                raise ProofError("proof-failed", "the history is not in ledger order")
            place = (step.index, step.position)
            link = lifecycle.link(
                link, step.index, step.position, step.line_hash, step.transition.format()
            )
        if place[0] >= evidence.status.index:
            raise ProofError("proof-failed", "the history goes on behind the status entry")
        return link

    def contradiction(self, record: bytes) -> str:
        """What the ledger admitted against its own rules, in a sentence; a LedgerError where the
        file does not prove that it did.

        `record` is what the map under the checkpoint holds of the certificate: it commits to the
        history, whatever rules made it. Nothing that is merely not shown counts against the ledger.
        """
        evidence, status = self.evidence, self.status_entry
        self._event_signature()
        self._inclusion()
        self._checkpoint()
        check_records(evidence.records, evidence.registry_size, status)
        heads = entries.map_heads(status)
        if heads is None:
            raise ProofError("proof-failed", "the status entry carries no maps")
        head, key = heads[CERTIFICATES], evidence.certificate.key
        committed = lifecycle.record_hash(record)
        check_membership(head.root, CERTIFICATES, head.k, key, committed, evidence.bucket)
        link = self._link()
        standing, last = lifecycle.parse_record(record)
        if (standing.count, last) != (len(self.history), link):
            raise ProofError("proof-failed", "the record commits to another history")
        type_value = self._record(f"type/{evidence.certificate.type_code}")
        for event in evidence.events:
            t = self._step(event).transition
            for name in (f"key/{t.key}", f"department/{t.by}"):
                self._record(name)
        try:
            ours = self.standings[-1]
        except LedgerError as err:
            return f"it admitted what the rules refuse: {err.message}"
        if ours.record(link) != record:
            return "its record of a certificate is not what the certificate's history gives"
        for event in evidence.events:
            try:
                self._check_authority(event.ordinal, self._step(event), type_value)
            except ProofError as err:
                return f"it admitted what its own registry does not allow: {err.message}"
        raise ProofError("proof-failed", "the rules give this history")

    def _freshness(self) -> Check:
        question = self.evidence.question
        try:
            time = self.ledger_time
        except LedgerError:
            return Check(FRESHNESS, NOT_CHECKED, "there is no status entry to take the time from")
        disagreeing = judge_witness_times(self.trust, self.evidence.checkpoint, time)
        if disagreeing is not None:
            return disagreeing
        if question.known_at is not None:
            about_now = question.known_at > time
        else:
            about_now = question.at is None or question.at > time
        if question.known_at is not None and question.known_at > self.reference + CLOCK_TOLERANCE:
            why = "nobody knows yet what the ledger will know then"
            return Check(FRESHNESS, FAILED, why, {}, UNCLEAR)
        if about_now:
            age = judge_age(time, self.reference, self.trust.max_checkpoint_age_seconds)
        else:
            known = format_instant(min(question.known_at or time, time))
            why = f"the question is about the past: the answer is what was known at {known}"
            age = passed(FRESHNESS, why, ledger_time=format_instant(time))
        return self._silence(age, min(self.at, time)) if age.result == PASSED else age

    def _silence(self, age: Check, moment: int) -> Check:
        """Whether the issuer's sign of life lets its word count for `moment`, past or present: what
        it decided by then may still be on its way.
        """
        issuer = self._issuer_freshness()
        if issuer is None and not self.history and self._is_unregistered():
            return age
        if issuer is None:
            why = "the responsible department's lane is not shown"
            return Check(FRESHNESS, FAILED, why, age.values, INCOMPLETE)
        values = {**age.values, "issuer": issuer}
        department, limit = issuer["department"], issuer["silence_limit_seconds"]
        if limit is None:
            why = f"{age.why}; {department} is silent by nature, it declared no limit"
            return Check(FRESHNESS, PASSED, why, values)
        if not issuer["signed_at"]:
            why = f"{department} has never signed anything on this certificate's lane"
            return Check(FRESHNESS, FAILED, why, values, SILENT)
        silent = moment - times.parse_moment(issuer["signed_at"])
        if silent > limit * times.SECOND:
            why = (
                f"{department} had been silent on this certificate's lane, {issuer['lane']}, for "
                f"{silent // times.SECOND} s at {format_instant(moment)}; it declared {limit} s"
            )
            return Check(FRESHNESS, FAILED, why, values, SILENT)
        return Check(
            FRESHNESS, PASSED, f"{age.why}; {department} signed at {issuer['signed_at']}", values
        )

    def _responsible(self) -> str:
        """Whose silence matters: the responsible department, or who would have issued."""
        return self.standings[-1].responsible or self.evidence.certificate.issuer

    def _is_unregistered(self) -> bool:
        """Whether neighbours in the registry, which is ascending, leave no place for the issuer."""
        name = tree_place({"name": f"department/{self.evidence.certificate.issuer}"})
        shown = {
            record.index: tree_place(parse_record(record.data)) for record in self.evidence.records
        }
        places = {-1: b"", self.evidence.registry_size: b"\xff", **shown}
        return bool(shown) and any(
            before < name < places[index + 1]
            for index, before in places.items()
            if index + 1 in places
        )

    def _issuer_freshness(self) -> dict[str, Any] | None:
        """The responsible department's last sign of life on this certificate's lane, None when the
        file lacks it.
        """
        try:
            responsible = self._responsible()
            department = self._record(f"department/{responsible}")
            lane = identity.lane_of(self.evidence.certificate.key, department["lanes"])
            signed_at = self._record(f"lane/{responsible}/{lane}")["signed_at"]
            silent = None
            if signed_at:
                silent = max(self.ledger_time - times.parse_moment(signed_at), 0) // times.SECOND
        except LedgerError:
            return None
        return {
            "department": responsible,
            "lane": lane,
            "signed_at": signed_at,
            "silent_seconds": silent,  # at the ledger time
            "silence_limit_seconds": department["silence_limit_seconds"],
        }

    def _names(self, found: Found, certificate: CertificateId) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for member, name in (
            ("type", f"type/{certificate.type_code}"),
            ("issuer", f"department/{certificate.issuer}"),
            ("responsible", f"department/{found.responsible}"),
        ):
            record = self._known_record(name)
            if record is not None:
                names[member] = record["names"]
                if member != "type":
                    names["contact"] = record["contact"]
        return names


# --- parts ---


def _another(
    certificate: CertificateId, type_code: str | None, issuer: str | None, number: str | None
) -> Answer | None:
    """The answer where the file is not about the certificate asked about."""
    normalised = None if number is None else identity.normalise_number(number)
    told = (
        ("type", type_code, certificate.type_code),
        ("issuer", issuer, certificate.issuer),
        ("number", normalised, certificate.number),
    )
    wrong = [(name, asked, own) for name, asked, own in told if asked not in (None, own)]
    if not wrong:
        return None
    why = "; ".join(
        f"asked about {name} {asked}, the file is of {own}" for name, asked, own in wrong
    )
    return undecided(
        ANOTHER,
        why,
        type_code=certificate.type_code,
        issuer=certificate.issuer,
        number=certificate.number,
    )


def _when(text: str, zone: str | None) -> int | None:
    return None if text == NOW else parse_when(text, zone)


def judge(examine: Mapping[str, Callable[[], Check]]) -> tuple[Check, ...]:
    """The named checks in their order. Under a checkpoint that is not trusted the others are not
    made: whatever else strangers wrote into the file is not worth a look.
    """
    checkpoint = _run(CHECKPOINT, examine[CHECKPOINT])
    trusted = checkpoint.result == PASSED
    checks = []
    for name in NAMES:
        if name == CHECKPOINT:
            checks.append(checkpoint)
        elif not trusted:
            checks.append(Check(name, NOT_CHECKED, "the checkpoint is not trusted"))
        elif name == DISCLOSURES:
            checks.append(Check(name, NOT_CHECKED, "no private facts are shown"))
        else:
            checks.append(_run(name, examine[name]))
    return tuple(checks)


def judge_checkpoint(
    origin: str, signed: bytes, genesis: Beginning, status: Shown, trust: Trust
) -> Check:
    """Check 4, of the signed checkpoint of evidence of the ledger `origin`: the ledger's signatures
    and the witnesses' quorum as the trust file asks for them, and the ledger's beginning.
    """
    try:
        checkpoint = trust.check_checkpoint(signed)
    except Unavailable as err:
        return Check(CHECKPOINT, NOT_CHECKED, err.message, {}, err.code)
    if origin != checkpoint.origin:
        raise ProofError("checkpoint-refused", "evidence and checkpoint name two ledgers")
    if genesis.leaf_hash != trust.genesis:
        raise ProofError("checkpoint-refused", "this is no ledger that began as the trusted one")
    merkle.check_inclusion(genesis.leaf_hash, 0, checkpoint.size, genesis.path, checkpoint.root)
    until = trust.until_time(checkpoint.size)
    if until is not None:
        time = times.parse_moment(read_status_entry(status, checkpoint)["time"])
        if time >= until:
            raise ProofError(
                "checkpoint-refused",
                f"a key for this size was retired before {format_instant(time)}",
            )
    cosigned = trust.cosignatures(signed)
    why = "signed as the trust file requires, of the ledger that began with the trusted entry 0"
    if any(policy.quorum != NO_QUORUM for policy in trust.policies(checkpoint.size)):
        why += f", cosigned by the quorum of witnesses it asks for ({len(cosigned)} did)"
    else:
        why += ", which asks for no witnesses"
    return passed(
        CHECKPOINT,
        why,
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=checkpoint.root.hex(),
        keys=[short_name(key) for key in trust.required(checkpoint.size)],
        witnesses={
            name: format_instant(seconds * times.SECOND) for name, seconds in cosigned.items()
        },
    )


def check_records(records: Sequence[Shown], size: int, status: Mapping[str, Any]) -> None:
    """None when the records are in the registry of `size` records under a status entry."""
    root = bytes.fromhex(status["registry_root"])
    for shown in records:
        leaf = merkle.leaf_hash(shown.data)
        merkle.check_inclusion(leaf, shown.index, size, shown.path, root)


def _run(name: str, examine: Callable[[], Check]) -> Check:
    try:
        return examine()
    except LedgerError as err:
        return Check(name, FAILED, err.message)


def passed(name: str, why: str, **values: Any) -> Check:
    """A check that passed, with the values it looked at."""
    return Check(name, PASSED, why, values)


def _without_events(name: str) -> Check:
    return Check(name, NOT_CHECKED, "there is no event to check")


def judge_witness_times(trust: Trust, signed: bytes, time: int) -> Check | None:
    """What is wrong where too few witnesses cosigned at about the ledger time; None otherwise, also
    where check 4 found the quorum wanting already.
    """
    size = parse_checkpoint(signed)[0].size
    try:
        cosigned = trust.cosignatures(signed)
    except LedgerError:
        return None
    if not all(policy.is_met(cosigned) for policy in trust.policies(size)):
        return None
    if trust.is_witnessed(size, cosigned, time // times.SECOND):
        return None
    limit = trust.max_witness_difference_seconds
    values = {
        "ledger_time": format_instant(time),
        "witnesses": {n: format_instant(s * times.SECOND) for n, s in cosigned.items()},
        "max_witness_difference_seconds": limit,
    }
    why = f"the quorum's witnesses did not cosign within {limit} s of the ledger time"
    return Check(FRESHNESS, FAILED, why, values, DISAGREEING)


def judge_age(time: int, reference: int, limit: int) -> Check:
    """Whether the ledger time is recent enough at the moment of reliance; `limit` in seconds."""
    age = reference - time
    values = {
        "ledger_time": format_instant(time),
        "as_of": format_instant(reference),
        "max_checkpoint_age_seconds": limit,
    }
    if age < -CLOCK_TOLERANCE:
        why = (
            f"the checkpoint is {-age // times.SECOND} s younger than the moment of reliance, "
            f"{format_instant(reference)}: is this machine's clock right?"
        )
        return Check(FRESHNESS, FAILED, why, values, STALE)
    seconds = max(age, 0) // times.SECOND
    if age > limit * times.SECOND:
        why = f"the checkpoint is {seconds} s old, at most {limit} s are allowed for now"
        return Check(FRESHNESS, FAILED, why, values, STALE)
    return Check(FRESHNESS, PASSED, f"the checkpoint is {seconds} s old", values)


def read_status_entry(shown: Shown, checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint's last leaf, which must be a status entry that reflects all before it."""
    entry = _parse_shared(shown.data)
    if entry["kind"] != entries.STATUS:
        raise ProofError("proof-failed", f"entry {shown.index} is no status entry")
    if shown.index != checkpoint.size - 1:
        raise ProofError(
            "proof-failed",
            f"the status entry is entry {shown.index}, the last one is {checkpoint.size - 1}",
        )
    if entry["reflects"] != shown.index:
        raise ProofError(
            "proof-failed",
            f"the status entry {shown.index} reflects only what is below {entry['reflects']}",
        )
    check_logged(shown, checkpoint)
    return entry


def _parse_shared(data: bytes) -> dict[str, Any]:
    """The entry in `data`, which other files may show too."""
    return _parse_known(data) if len(data) <= _LONGEST_KNOWN else parse_entry(data)


_LONGEST_KNOWN = 8 * 1024  # bytes
_parse_known = lru_cache(maxsize=64)(parse_entry)


@lru_cache(maxsize=64)
def _parse_bundle_note(text: str) -> tuple[Note, Header]:
    note = parse_note(text.encode())
    header = parse_header(note.text)
    if header.text() != note.text:
        raise Malformed("malformed-note", "the bundle's note is not in canonical form")
    return note, header
