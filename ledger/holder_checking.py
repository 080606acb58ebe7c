"""Checking holder evidence offline: is this everything that is bound to these pseudonyms?

The named checks and the table are those of `checking`; nothing in a file is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from . import lifecycle, merkle, times
from .checking import (
    check_records,
    judge,
    judge_age,
    judge_checkpoint,
    judge_witness_times,
    passed,
    read_status_entry,
)
from .checkpoint import Checkpoint, parse_checkpoint
from .entry import map_heads
from .errors import LedgerError, ProofError
from .evidence import Beginning, CertificateId
from .holder_evidence import Held, HolderEvidence, parse_holder_evidence
from .identity import holder_key
from .question import format_instant, parse_when
from .records import parse_record
from .registry import PSEUDONYMS
from .statusmap import HOLDERS, check_membership
from .trust import Trust
from .verdict import (
    AUTHORITY,
    CANNOT_DECIDE,
    CHECKPOINT,
    EVENT_SIGNATURE,
    EXIT,
    FRESHNESS,
    INCLUSION,
    LISTED,
    NAMES,
    NOT_CHECKED,
    NOTHING_BOUND,
    REFUSED,
    STATUS,
    Check,
    Found,
    decide,
)


@dataclass(frozen=True, slots=True)
class HolderAnswer:
    """Everything that is bound to a holder's pseudonyms, or why that cannot be said."""

    answer: str
    reason: str
    checks: tuple[Check, ...]
    why: str = ""
    pseudonyms: tuple[str, ...] = ()
    certificates: tuple[CertificateId, ...] = ()  # still bound, in the order of binding
    formerly: int = 0  # certificates that were bound once and are no more
    tree_size: int | None = None
    ledger_time: int | None = None
    names: Mapping[str, Any] = field(default_factory=dict)  # by registry record

    @property
    def exit(self) -> int:
        """The command line's exit code."""
        return EXIT[self.answer]

    def members(self) -> dict[str, Any]:
        """The JSON answer."""
        return {
            "answer": self.answer,
            "reason": self.reason,
            "why": self.why,
            "pseudonyms": list(self.pseudonyms),
            "certificates": [certificate.members() for certificate in self.certificates],
            "formerly_bound": self.formerly,
            "names": dict(self.names),
            "checks": [check.members() for check in self.checks],
            "tree_size": self.tree_size,
            "ledger_time": None if self.ledger_time is None else format_instant(self.ledger_time),
        }


def check_holder_file(
    data: bytes, trust: Trust, now: int, relied_at: str | None = None
) -> HolderAnswer:
    """What a holder evidence file proves under a trust file; any bytes give an answer. Malformed
    only for a moment that cannot be understood.
    """
    relied = None if relied_at is None else parse_when(relied_at, None)
    try:
        evidence = parse_holder_evidence(data)
    except LedgerError as err:
        return undecided_holder(REFUSED, err.message)
    return check_holder(evidence, trust, now, relied)


def undecided_holder(reason: str, why: str) -> HolderAnswer:
    """The answer when nothing could be looked at."""
    checks = tuple(Check(name, NOT_CHECKED, "nothing was checked") for name in NAMES)
    return HolderAnswer(CANNOT_DECIDE, reason, checks, why)


def check_holder(
    evidence: HolderEvidence, trust: Trust, now: int, relied_at: int | None = None
) -> HolderAnswer:
    """What parsed holder evidence proves; freshness is judged as of `relied_at`."""
    return _Examination(evidence, trust, now if relied_at is None else relied_at).answer()


class _Examination:
    """One look at one holder evidence file. Its properties raise LedgerError where it is bad."""

    def __init__(self, evidence: HolderEvidence, trust: Trust, reference: int) -> None:
        self.evidence = evidence
        self.trust = trust
        self.reference = reference

    def answer(self) -> HolderAnswer:
        evidence = self.evidence
        checks = judge(
            {
                EVENT_SIGNATURE: lambda: _without(EVENT_SIGNATURE, "acts are shown, and no event"),
                AUTHORITY: self._authority,
                INCLUSION: lambda: _without(INCLUSION, "the signed state commits to the acts"),
                CHECKPOINT: self._checkpoint,
                STATUS: self._status,
                FRESHNESS: self._freshness,
            }
        )
        bound = list(dict.fromkeys(key for held in evidence.pseudonyms for key in held.bound))
        ever = {act.certificate for held in evidence.pseudonyms for act in held.acts}
        found = (
            Found(LISTED, "all-that-is-bound") if bound else Found(NOTHING_BOUND, "nothing-bound")
        )
        answer, reason, why = decide(checks, found)
        pseudonyms = tuple(held.pseudonym for held in evidence.pseudonyms)
        if reason == REFUSED:
            return HolderAnswer(answer, reason, checks, why, pseudonyms)
        return HolderAnswer(
            answer=answer,
            reason=reason,
            checks=checks,
            why=why,
            pseudonyms=pseudonyms,
            certificates=tuple(evidence.certificates[key] for key in bound),
            formerly=len(ever) - len(bound),
            tree_size=self.checkpoint.size,
            ledger_time=self.ledger_time,
            names={
                name: value["names"] for name, value in self.records.items() if "names" in value
            },
        )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, whoever signed it: check 4 judges that, and before all others."""
        return parse_checkpoint(self.evidence.checkpoint)[0]

    @cached_property
    def status_entry(self) -> dict[str, Any]:
        return read_status_entry(self.evidence.status, self.checkpoint)

    @cached_property
    def ledger_time(self) -> int:
        return times.parse_moment(self.status_entry["time"])

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        """The shown registry records by name; whether the registry holds them is not asked here."""
        records = [parse_record(shown.data) for shown in self.evidence.records]
        return {record["name"]: record["value"] for record in records}

    def _authority(self) -> Check:
        evidence = self.evidence
        check_records(evidence.records, evidence.registry_size, self.status_entry)
        value = self.records.get(PSEUDONYMS)
        if value is None:
            raise ProofError("proof-failed", f"the registry's record {PSEUDONYMS!r} is not shown")
        wanted = [item["version"] for item in value["versions"]]
        shown = [held.version for held in evidence.pseudonyms]
        if shown != wanted:
            raise ProofError(
                "proof-failed",
                f"the registry names versions {wanted} of the pseudonym secret, the file holds "
                f"pseudonyms of {shown}",
            )
        return passed(
            AUTHORITY,
            "a pseudonym is shown for every version of the secret that the registry under this "
            "checkpoint names",
            registry_root=self.status_entry["registry_root"],
            versions=wanted,
        )

    def _checkpoint(self) -> Check:
        evidence = self.evidence
        judged = judge_checkpoint(
            evidence.origin,
            evidence.checkpoint,
            Beginning(merkle.leaf_hash(evidence.genesis.data), evidence.genesis.path),
            evidence.status,
            self.trust,
        )
        if evidence.genesis.index != 0:
            raise ProofError("proof-failed", "the ledger begins with entry 0")
        return judged

    def _status(self) -> Check:
        heads = map_heads(self.status_entry)
        if heads is None:
            raise ProofError("proof-failed", "the status entry carries no maps")
        head = heads[HOLDERS]
        for held in self.evidence.pseudonyms:
            key, record = holder_key(held.pseudonym), self._record(held)
            try:
                check_membership(head.root, HOLDERS, head.k, key, record, held.membership)
            except ProofError as err:
                raise ProofError(
                    err.code,
                    f"this is not all that is bound to {held.pseudonym}: {err.message}",
                ) from err
        bound = {key for held in self.evidence.pseudonyms for key in held.bound}
        if bound != self.evidence.certificates.keys():
            raise ProofError(
                "proof-failed", "what is still bound is shown with its number, and nothing else is"
            )
        return passed(
            STATUS,
            "every act that ever bound a certificate to these pseudonyms or unbound it is here, "
            "under the checkpoint's last status entry",
            reflects=self.status_entry["reflects"],
            ledger_time=self.status_entry["time"],
            acts=[len(held.acts) for held in self.evidence.pseudonyms],
        )

    def _record(self, held: Held) -> bytes | None:
        """The record hash that the acts lead to, None for no acts."""
        link, place = holder_key(held.pseudonym), (-1, -1)
        bound: set[bytes] = set()
        for act in held.acts:
            if (act.index, act.position) <= place:
                raise ProofError("proof-failed", "the acts are not in ledger order")
            if (act.certificate in bound) is act.bound:
                raise ProofError(
                    "proof-failed", "an act binds what is bound, or unbinds what is not"
                )
            (bound.add if act.bound else bound.remove)(act.certificate)
            place = (act.index, act.position)
            link = lifecycle.holder_link(link, act.bound, act.certificate, *place)
        if place[0] >= self.evidence.status.index:
            raise ProofError("proof-failed", "the acts go on behind the status entry")
        return lifecycle.holder_record_hash(len(held.acts), link) if held.acts else None

    def _freshness(self) -> Check:
        limit = self.trust.max_checkpoint_age_seconds
        disagreeing = judge_witness_times(self.trust, self.evidence.checkpoint, self.ledger_time)
        return disagreeing or judge_age(self.ledger_time, self.reference, limit)


def _without(name: str, why: str) -> Check:
    return Check(name, NOT_CHECKED, why)
