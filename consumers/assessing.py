"""What a holder need not bring to a service: out of the store, or out of checked evidence.

`assess_stored` reads what is bound to the holder from the tables, as of the published checkpoint:
quick, and worth what the server's word is. `assess_proven` makes the evidence that the list of
certificates is complete and how each stands, checks it as anybody would, and decides by it alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.catalogue import Catalogue
from ledger.checking import check
from ledger.errors import Refused
from ledger.evidence import CertificateId, Evidence
from ledger.holder_checking import HolderAnswer, check_holder
from ledger.holder_evidence import HolderEvidence
from ledger.identity import parse_pseudonym
from ledger.postgres.reader import View
from ledger.question import Question, format_instant
from ledger.trust import Trust
from ledger.verdict import LISTED, NOTHING_BOUND, Answer
from ledger.waiver import Assessment, Held, assess

_KEPT = 16  # catalogues, by their roots


class Catalogues:
    """Published catalogues, each read and checked once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Catalogue] = OrderedDict()
        self._known: dict[tuple[str, int | None], tuple[int, str]] = {}  # tree size, root

    def get(self, view: View, name: str, version: int | None = None) -> Catalogue:
        """Version `version` of `DEPARTMENT/CODE`, by default the last; Refused
        `unknown-catalogue`.
        """
        size, root = self._known.get((name, version), (-1, ""))
        if size != view.size:
            versions = view.catalogue_versions(name)
            wanted = [item for item in versions if version in (None, item["version"])]
            root = wanted[-1]["root"] if wanted else ""
        if root not in self._kept:
            catalogue, _ = view.catalogue(name, version)
            root = catalogue.root.hex()
            self._kept[root] = catalogue
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        if size != view.size:
            if len(self._known) >= _KEPT * _KEPT:
                self._known.clear()
            self._known[name, version] = (view.size, root)
        self._kept.move_to_end(root)
        return self._kept[root]

    def find(self, view: View, service: str, name: str | None) -> Catalogue:
        """The catalogue `name`, or the only one that has the service; Refused `unknown-service`,
        `unknown-catalogue`, `ambiguous`.
        """
        names = [name] if name is not None else sorted(view.catalogues())
        found = [made for one in names if service in (made := self.get(view, one)).services]
        if len(found) > 1:
            known = ", ".join(one.record_name.removeprefix("catalogue/") for one in found)
            raise Refused("ambiguous", f"several catalogues have {service[:128]!r}: {known}")
        if not found:
            raise Refused("unknown-service", f"no service {service[:128]!r} in a catalogue here")
        return found[0]


@dataclass(frozen=True, slots=True)
class Assessed:
    """An assessment, and the checkpoint that it is of."""

    assessment: Assessment
    tree_size: int
    at: int
    pseudonyms: tuple[str, ...]
    proven: Proven | None = None

    def members(self) -> dict[str, Any]:
        """As JSON."""
        proof: dict[str, Any] = {"is_proven": self.proven is not None}
        if self.proven is not None:
            proof["list"] = self.proven.listed.answer
        return {
            **self.assessment.members(),
            "holder": list(self.pseudonyms),
            "at": format_instant(self.at),
            "tree_size": self.tree_size,
            **proof,
        }


@dataclass(frozen=True, slots=True)
class Proven:
    """The evidence behind an assessment: of the whole list, and of each certificate looked at."""

    holder: HolderEvidence
    listed: HolderAnswer
    certificates: dict[CertificateId, tuple[Evidence, Answer]]


def wanted_types(catalogue: Catalogue, service: str) -> list[str]:
    """The certificate types that can stand for anything that a service demands."""
    kinds = (
        catalogue.evidence_types[material.evidence_type].certificate_type
        for requirement in catalogue.services[service].requirements
        for one in requirement.lists
        for material in one
    )
    return sorted({kind for kind in kinds if kind is not None})


def assess_stored(
    view: View, catalogue: Catalogue, service: str, pseudonyms: Sequence[str], at: int
) -> Assessed:
    """The assessment at the instant `at` by what the tables say of the published ledger."""
    types = wanted_types(catalogue, service)
    held = [
        Held(
            certificate,
            found.answer,
            found.reason,
            found.since,
            found.version,
            found.responsible,
        )
        for certificate, found in view.held(pseudonyms, types, at)
    ]
    return Assessed(assess(catalogue, service, held), view.size, at, tuple(pseudonyms))


def assess_proven(
    view: View,
    catalogue: Catalogue,
    service: str,
    pseudonyms: Sequence[str],
    trust: Trust,
    now: int,
    at: int | None = None,
) -> Assessed:
    """The assessment by evidence made and checked here: nothing that is bound to the holder is left
    out, and each certificate that counts is *valid* by its evidence. Refused with what hindered
    where the list cannot be proven.
    """
    evidence = view.holder_evidence(pseudonyms, now)
    listed = check_holder(evidence, trust, now)
    if listed.answer not in (LISTED, NOTHING_BOUND):
        raise Refused("evidence-incomplete", f"{listed.reason}: {listed.why}")
    types = set(wanted_types(catalogue, service))
    held, certificates = [], {}
    for certificate in listed.certificates:
        if certificate.type_code not in types:
            continue
        shown = view.evidence(certificate, Question(now, at))
        answer = check(shown, trust, now)
        certificates[certificate] = (shown, answer)
        found = answer.found
        held.append(
            Held(
                certificate,
                answer.answer,
                answer.reason,
                answer.turn,
                (found.version if found is not None else None) or 0,
                (found.responsible if found is not None else None) or certificate.issuer,
            )
        )
    proven = Proven(evidence, listed, certificates)
    moment = now if at is None else at
    made = assess(catalogue, service, held)
    return Assessed(made, view.size, moment, tuple(pseudonyms), proven)


def check_pseudonyms(pseudonyms: Sequence[str]) -> None:
    """None where each is one; Malformed otherwise, before anything is looked up."""
    for pseudonym in pseudonyms:
        parse_pseudonym(pseudonym)
