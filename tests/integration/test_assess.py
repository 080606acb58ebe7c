"""What need not be brought, out of a real PostgreSQL: by the tables, by evidence, over HTTP."""

from __future__ import annotations

import http.client
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from consumers import assess_commands, savings_commands
from consumers.assessing import Catalogues, assess_proven, assess_stored
from ledger import identity, merkle, staterow, times
from ledger.catalogue import Catalogue, parse_catalogue
from ledger.checking import check, check_file
from ledger.errors import LedgerError
from ledger.holder_checking import check_holder
from ledger.note import sign
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader, View
from ledger.postgres.store import read_genesis
from ledger.question import Question
from ledger.registry import NO_RECORD, note_text
from ledger.trust import Trust, format_trust, parse_trust
from tests import world
from tests.http_serving import serving
from tests.stored_ledger import StoredLedger, damage
from tests.unit.test_waiver import make_catalogue_file, need

HOLDER, OTHER, NOBODY = (f"1:{who * 64}" for who in "abc")
PERMIT = "permit"


@dataclass
class Env:
    """A ledger's database and trust, as commands see them."""

    postgres_url: str
    trust: Path
    size: int = 0


def catalogue_file() -> bytes:
    kinds = {
        "licence": {"certificate_type": world.TYPE, "issuers": ["market"]},
        "permit": {"certificate_type": PERMIT},
        "form": {"certificate_type": "form", "source": "holder"},
    }
    requirements = [need("trade", "licence"), need("safety", "permit", "form"), need("who", "form")]
    return make_catalogue_file(requirements, kinds, market="a")


def trust(genesis: bytes) -> Trust:
    return Trust(world.ORIGIN, genesis, world.CHECKPOINT_KEYS, operator=world.OPERATOR.key)


@pytest.fixture
def env(ledger: StoredLedger, tmp_path: Path) -> Env:
    connection = connect(ledger.url, "test")
    _, genesis = read_genesis(connection)
    connection.close()
    made = Env(ledger.url, tmp_path / "trust.json")
    made.trust.write_bytes(format_trust(trust(genesis)))
    grants = [{"department": "a", "acts": list(world.ALL_ACTS), "scope": "own"}]
    change = {"names": {"zh": "许可证"}, "code": "", "grants": grants}
    ledger.registrar.change(f"type/{PERMIT}", change, world.OPERATOR)
    ledger.registrar.change("pseudonyms", {"version": 1, "check": "0" * 64}, world.OPERATOR)
    ledger.send(
        ledger.make(
            [
                *ledger.issued("L-1", holder_pseudonym=HOLDER),
                *ledger.issued("P-1", type_code=PERMIT, holder_pseudonym=HOLDER),
                *ledger.issued("L-2", holder_pseudonym=OTHER),
            ]
        )
    )
    suspended = ledger.event("suspended", "P-1", type_code=PERMIT, reason_code="fire")
    ledger.send(ledger.make([suspended]))
    data = catalogue_file()
    catalogue = parse_catalogue(data)
    text = {"version": 1, "root": catalogue.root.hex(), "size": len(catalogue.leaves)}
    note = note_text(world.ORIGIN, catalogue.record_name, NO_RECORD, text)
    assert ledger.registrar.store.change_registry(sign(note, [world.registry_signer("a")]), data)
    made.size = ledger.checkpoint().size
    # what is not published yet is not answered by
    ledger.send(ledger.make(ledger.issued("L-3", holder_pseudonym=NOBODY)))
    return made


WHO = f"1:{'d' * 64}"
LATER: list[
    list[tuple[str, dict[str, Any]]]
] = [  # what is said of a certificate of `WHO` after it was issued
    [],
    [("suspended", {"reason_code": "x"})],
    [("suspended", {"reason_code": "x"}), ("reinstated", {})],
    [("revoked", {"revocation_kind": "penalty", "reason_code": "x"})],
    [("expired", {})],
    [("amended", {"reason_code": "x"}), ("amended", {"reason_code": "x"})],
    [("renewed", {"valid_until": "2040-01-01+08:00"}), ("suspended", {"reason_code": "x"})],
    [("transferred-out", {"transfer_to": "b", "reason_code": "x"})],
    [("amended", {"reason_code": "x", "holder_pseudonym": OTHER})],
    [
        (
            "corrected",
            {
                "corrects": f"{9:032x}",
                "correction": "restate",
                "reason_code": "x",
                "valid_until": "2031-12-31+08:00",
            },
        )
    ],
    [
        (
            "corrected",
            {"corrects": f"{10:032x}", "correction": "void", "reason_code": "x"},
        )
    ],
]


@pytest.fixture
def every_state(ledger: StoredLedger) -> StoredLedger:
    """Certificates in every state, all but those given away bound to `WHO`, in two bundles."""
    numbers = [f"S-{n}" for n in range(len(LATER))]
    issued = [
        ledger.event("issued", number, event_id=f"{n:032x}", holder_pseudonym=WHO)
        for n, number in enumerate(numbers)
    ]
    later = [
        ledger.event(kind, number, **members)
        for number, events in zip(numbers, LATER, strict=True)
        for kind, members in events
    ]
    assert ledger.send(ledger.make(issued), ledger.make(later)) == {"logged": 2}
    assert set(ledger.counts()) == {"admitted"}, ledger.counts()
    ledger.registrar.change("pseudonyms", {"version": 1, "check": "0" * 64}, world.OPERATOR)
    ledger.checkpoint()
    return ledger


@pytest.fixture
def view(env: Env) -> Iterator[View]:
    connection = connect(env.postgres_url, "test")
    with Reader(connection).open() as opened:
        yield opened
    connection.close()


def results(members: dict[str, Any]) -> dict[str, str]:
    return {one["code"]: one["result"] for one in members["requirements"]}


def now() -> int:
    return times.parse_moment("2026-06-01T00:00:00Z")


def test_tables_and_evidence_say_the_same(env: Env, view: View, ledger: StoredLedger) -> None:
    known = Catalogues()
    catalogue: Catalogue = known.find(view, "open", None)
    assert known.get(view, "a/town") is catalogue, "kept"
    trusted = trust(merkle.leaf_hash(view.entry(0)))
    moment = ledger.now()
    for who in (HOLDER, OTHER, NOBODY):
        stored = assess_stored(view, catalogue, "open", [who], moment).members()
        proven = assess_proven(view, catalogue, "open", [who], trusted, moment).members()
        assert stored.pop("is_proven") is False
        assert proven.pop("is_proven") is True
        assert proven.pop("list") == ("nothing-bound" if who == NOBODY else "listed")
        for one in (*stored["requirements"], *proven["requirements"]):
            for bad in one["unfit"]:
                bad.pop("since")
        assert stored == proven
    mine = assess_stored(view, catalogue, "open", [HOLDER], moment).members()
    assert results(mine) == {"trade": "satisfied", "safety": "needed", "who": "needed"}
    assert [one["evidence_type"] for one in mine["bring"]] == ["form"]
    (bad,) = mine["requirements"][1]["unfit"]
    assert (bad["reason"], bad["mend"], bad["office"]) == ("suspended", "reinstate", "a")
    assert mine["tree_size"] == env.size
    ledger.check()


def test_every_state_is_told_as_evidence_has_it(every_state: StoredLedger) -> None:
    connection = connect(every_state.url, "test")
    now = every_state.now()
    told = set()
    with Reader(connection).open() as opened:
        trusted = trust(merkle.leaf_hash(opened.entry(0)))
        listed = check_holder(opened.holder_evidence([WHO], now), trusted, now)
        for at in (now, times.parse_moment("2020-01-01T00:00:00Z"), now + 10**12):
            held = opened.held([WHO], [world.TYPE], at)
            assert sorted(name.key for name, _ in held) == sorted(
                name.key for name in listed.certificates
            )
            for name, found in held:
                proven = check(opened.evidence(name, Question(now, at)), trusted, now)
                assert (proven.answer, proven.reason) == (found.answer, found.reason), name
                assert proven.found is not None
                for member in ("since", "valid_from", "valid_until", "responsible"):
                    assert getattr(proven.found, member) == getattr(found, member), (name, member)
                assert (proven.found.version or 0) == found.version, name
                told.add(found.reason)
        assert opened.held([WHO], [PERMIT], now) == [], "of other types nothing is read"
    connection.close()
    assert told >= {
        "in-force", "suspended", "revoked-penalty", "expired", "transferred", "not-yet-valid",
    }  # fmt: skip
    every_state.check()


@pytest.mark.parametrize(
    "change",
    [
        # one bit: was bound instead of is no more; another place; a link; a place of a history
        "UPDATE holder SET recent = set_byte(recent, 7, get_byte(recent, 7) # 1) WHERE acts = 12",
        "UPDATE holder SET recent = set_byte(recent, 6, get_byte(recent, 6) # 1) WHERE acts = 12",
        "UPDATE holder SET link = set_byte(link, 31, get_byte(link, 31) # 1) WHERE acts = 12",
        "UPDATE certificate SET state = set_byte(state, 0, get_byte(state, 0) # 1) WHERE {}",
        # the standing, the flag that a row is of the new kind, the checksum, another row's state
        "UPDATE certificate SET state = set_byte(state, 49, get_byte(state, 49) # 2) WHERE {}",
        "UPDATE certificate SET state = set_byte(state, 58, get_byte(state, 58) # 1) WHERE {}",
        "UPDATE certificate SET state = set_byte(state, 48, get_byte(state, 48) # 64) WHERE {}",
        "UPDATE certificate SET state = set_byte(state, length(state) - 1, 7) WHERE {}",
        "UPDATE certificate SET (state, history) = (SELECT other.state, other.history "
        "FROM certificate other WHERE other.map_key <> certificate.map_key "
        "AND length(other.history) = 12 LIMIT 1) WHERE {}",
        "UPDATE certificate SET history = set_byte(history, 7, get_byte(history, 7) # 1) WHERE {}",
        "UPDATE certificate SET history = substring(history FOR 12) WHERE {}",
        "DELETE FROM certificate WHERE {}",
        "DELETE FROM lines WHERE {}",
    ],
)
def test_a_flipped_bit_never_gives_an_assessment(every_state: StoredLedger, change: str) -> None:
    one = "number_hash = " + str(staterow.number_hash("S-1"))
    if "lines" in change:
        one = "log_index = (SELECT max(log_index) FROM lines)"
    damage(every_state.url, change.format(one))
    connection = connect(every_state.url, "test")
    with Reader(connection).open() as opened, pytest.raises(LedgerError) as caught:
        opened.held([WHO], [world.TYPE], every_state.now())
    connection.close()
    assert caught.value.code == "stored-bytes-damaged"


def test_the_past_is_asked_about_too(view: View, ledger: StoredLedger) -> None:
    catalogue = Catalogues().find(view, "open", "a/town")
    before = times.parse_moment("2020-01-01T00:00:00Z")
    then = assess_stored(view, catalogue, "open", [HOLDER], before).members()
    assert then["requirements"][0]["unfit"][0]["reason"] == "not-yet-valid"


def run(env: Env, *argv: str) -> int:
    parser = ArgumentParser()
    assess_commands.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(["assess", *argv])
    return int(args.run(args, env))


def test_the_command_says_it_and_keeps_the_evidence(
    env: Env, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    papers = tmp_path / "papers"
    assert run(env, "open", "--holder", HOLDER, "--json", "--evidence", str(papers)) == 1
    members = json.loads(capsys.readouterr().out)
    assert members["requirements"][0]["satisfied_by"][0]["certificate"]["number"] == "L-1"
    kept = sorted(path.name for path in papers.iterdir())
    assert kept == [
        f"01-{world.TYPE}.evidence.json",
        f"02-{PERMIT}.evidence.json",
        "list.holder-evidence.json",
    ]
    data = (papers / kept[0]).read_bytes()
    assert (
        check_file(
            data, parse_trust(env.trust.read_bytes()), times.parse_moment("2026-06-01T00:00:00Z")
        ).number
        == "L-1"
    )
    assert run(env, "open", "--holder", HOLDER) == 1
    said = capsys.readouterr().err
    assert "NOT TO BRING 免提交" in said
    assert "P-1 does not hold (suspended): have it reinstated" in said
    for words, code in (
        (("marry", "--holder", HOLDER), "unknown-service"),
        (("open", "--holder", HOLDER, "--catalogue", "a/city"), "unknown-catalogue"),
        (("open", "--holder", "ann"), "malformed-number"),
    ):
        with pytest.raises(LedgerError) as refused:
            run(env, *words)
        assert refused.value.code == code


def test_savings_are_the_same_from_the_ledger_and_from_files(
    env: Env, ledger: StoredLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = parse_catalogue(catalogue_file()).root.hex()
    change = {"names": {"zh": "开办"}, "offices": ["b"]}
    ledger.registrar.change("service/open", change, world.OPERATOR)
    key = identity.certificate_key(world.TYPE, "a", "L-1").hex()
    said: dict[str, Any] = {
        "certificates": [{"map_key": key, "version": 1, "meets": [["trade", "licence"]]}],
        "catalogue": root,
        "tree_size": env.size,
    }
    lines = [
        world.make_reliance("relied", case, office="b", service="open", **said) for case in "123"
    ]
    wrong = world.make_reliance(
        "relied", "4", office="b", service="open", **{**said, "catalogue": "ab" * 32}
    )
    ledger.send(ledger.make([*lines, wrong], "b"))
    assert ledger.counts()["unknown-catalogue"] == 1
    ledger.checkpoint()
    parser = ArgumentParser()
    savings_commands.add_commands(parser.add_subparsers(required=True))

    def run(*words: str) -> dict[str, Any]:
        args = parser.parse_args(["savings", "--json", *words])
        assert args.run(args, env) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    kept, town, drawn = tmp_path / "kept.ndjson", tmp_path / "town.json", tmp_path / "s.svg"
    town.write_bytes(catalogue_file())
    stored = run("--export", str(kept), "--svg", str(drawn))
    assert kept.stat().st_mode & 0o777 == 0o600
    assert stored == run("--receipts", str(kept), "--catalogue", str(town))
    assert stored["rows"] == [
        {"service": "open", "office": "b", "month": "2026-03", "cases": 3, "proofs": 3,
         "copies": 0, "windows": 0, "uncounted": 0}
    ]  # fmt: skip
    assert "2026-03: 3 proofs not demanded" in drawn.read_text()
    ledger.check()


def test_over_http_with_the_pseudonym_in_no_url(env: Env) -> None:
    asked: dict[str, Any] = {"service": "open", "holder": [HOLDER]}
    bodies: list[Any] = [
        asked,
        {**asked, "proven": True},
        {**asked, "holder": []},
        {**asked, "holder": ["ann"]},
        {**asked, "service": "marry"},
        {**asked, "name": "张三"},
        b"\xff",
        b"[" * 70_000,
    ]
    found = []
    with serving(env.postgres_url, CERTLEDGER_TRUST=str(env.trust)) as served:
        for body in bodies:
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
            data = body if type(body) is bytes else json.dumps(body).encode()
            connection.request("POST", "/v1/assess", data)
            answer = connection.getresponse()
            found.append((answer.status, json.loads(answer.read())))
            connection.close()
    quick, proven, *wrong = found
    assert (quick[0], proven[0]) == (200, 200)
    assert quick[1]["is_proven"] is False
    assert proven[1]["is_proven"] is True
    assert results(quick[1]) == results(proven[1])
    assert [status for status, _ in wrong] == [400, 400, 404, 400, 400, 413]


def test_the_pages_show_it_in_both_languages(env: Env) -> None:
    with serving(env.postgres_url, CERTLEDGER_TRUST=str(env.trust)) as served:

        def ask(path: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
            data = None if form is None else urlencode(form)
            connection.request("GET" if form is None else "POST", path, data)
            answer = connection.getresponse()
            text, kind = answer.read().decode(), answer.headers["Content-Type"]
            connection.close()
            return answer.status, text, kind

        status, form, _ = ask("/service?lang=en")
        assert status == 200
        assert '<option value="open">' in form
        asked = {"service": "open", "holder": HOLDER}
        status, shown, _ = ask("/service?lang=en", asked)
        assert status == 200
        assert "1 document to bring" in shown
        assert "certificate L-1, version 1, by a" in shown
        assert "P-1 does not hold. Suspended: have it reinstated (a)" in shown
        status, chinese, _ = ask("/service?lang=zh", asked)
        assert "还需提交 1 份材料" in chinese
        assert "证照 P-1 不能使用。" in chinese
        for wrong, said in (
            ({"service": "", "holder": HOLDER}, "Choose a service"),
            ({"service": "open", "holder": "张三"}, "Enter a pseudonym"),
            ({"service": "<script>", "holder": HOLDER}, "No published catalogue"),
        ):
            status, refused, _ = ask("/service?lang=en", wrong)
            assert status in (400, 404)
            assert said in refused
            assert "<script>" not in refused
        status, numbers, _ = ask("/savings?lang=en")
        assert status == 200
        assert "No office has relied on an answer yet." in numbers
        status, drawn, kind = ask("/savings.svg")
        assert (status, kind) == (200, "image/svg+xml")
        assert drawn.startswith("<svg")
        assert ask("/service?lang=en", {"service": "x" * 20_000})[0] == 400
