"""Sheets of paper: what a QR code says, to whom, and what altered ones do not."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import segno
from PIL import Image, ImageFilter

from consumers.pictures import read_sheet
from consumers.sheet_page import draw_html, draw_pdf, draw_svg, lay_out
from ledger import sheet, times, verdict
from ledger.checking import check
from ledger.checkpoint import parse_checkpoint
from ledger.cosignature import COSIGNATURE_V1, ML_DSA_44, Cosigner
from ledger.errors import LedgerError, Malformed, Refused
from ledger.evidence import Evidence
from ledger.note import MemorySigner
from ledger.policy import Witness, simple_policy
from ledger.trust import Trust, TrustedKey, TrustedQuorum, format_trust, parse_trust
from ledger.verdict import Answer
from ledger.witnessing import add_signatures
from tests import world
from tests.altered_evidence import make_town
from tests.browser_verifier import Node, needs_node, outcome
from tests.ledger_builder import LedgerBuilder

KEY = world.signer(sheet.key_name(world.ORIGIN))
DAY = 86_400 * times.SECOND
NUMBERS = ("plain", "湘长市监许 2023-0403/7", "suspended", "penalty", "renewed", "future", "wrong")


@cache
def town() -> LedgerBuilder:
    return make_town()


def trust(**members: Any) -> Trust:
    return town().trust(**{"sheet_keys": (KEY.key,), **members})


def make(number: str, said: Trust | None = None, signer: MemorySigner = KEY) -> str:
    evidence, answer = ask(number, said)
    return sheet.make_sheet(evidence, answer, said or trust(), signer)


def ask(number: str, said: Trust | None = None) -> tuple[Evidence, Answer]:
    evidence = town().evidence(number)
    return evidence, check(evidence, said or trust(), town().now)


def look(text: str, said: Trust | None = None, later: int = 5 * times.SECOND, **own: Any) -> Answer:
    return sheet.check_sheet(text, said or trust(), town().now + later, **own)


def resigned(text: str, **members: Any) -> str:
    """The sheet saying something else, signed by the sheet key again."""
    found = sheet.parse_sheet(text)
    statement = replace(found.statement, **members)
    signature = (KEY.key.key_hash, KEY.sign(statement.text()))
    return sheet.format_sheet(replace(found, statement=statement, signature=signature))


# --- forms ---


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"AB", "BB8"),
        (b"Hello!!", "%69 VD92EX0"),
        (b"base-45", "UJCLQE7W581"),
        (b"ietf!", "QED8WEX0"),
        (b"", ""),
        (b"\0", "00"),
    ],
)
def test_base45_of_rfc_9285(data: bytes, text: str) -> None:
    assert sheet.encode_base45(data) == text
    assert sheet.decode_base45(text) == data


@pytest.mark.parametrize("text", ["0", ":::", "GGW", "::", "bb8", "BB8!", "BB80"])
def test_no_base45(text: str) -> None:
    with pytest.raises(Malformed):
        sheet.decode_base45(text)


def test_a_sheet_is_printed_again_to_the_same_text() -> None:
    for number in NUMBERS:
        text = make(number)
        assert sheet.format_sheet(sheet.parse_sheet(text)) == text
        assert len(text) < 800


def test_sheet_keys_stand_in_the_trust_file() -> None:
    assert parse_trust(format_trust(trust())).sheet_keys == (KEY.key,)
    for keys in ("x", [], [1], ["x"]):
        value = {**json.loads(format_trust(trust())), "sheet_keys": keys}
        with pytest.raises(Malformed):
            parse_trust(json.dumps(value).encode())


# --- what it says ---


@pytest.mark.parametrize("number", NUMBERS)
def test_a_sheet_says_what_the_evidence_proved(number: str) -> None:
    _, proven = ask(number)
    said = look(make(number))
    assert (said.answer, said.reason) == (proven.answer, proven.reason)
    whole, part = proven.members(), said.members()
    for member in ("since", "certificate", "tree_size", "ledger_time"):
        assert part[member] == whole[member]
    assert {c.name: c.result for c in said.checks} == {
        "event-signature": "not-checked",
        "authority": "not-checked",
        "inclusion": "not-checked",
        "checkpoint": "passed",
        "status": "passed",
        "freshness": "passed",
        "disclosures": "not-checked",
    }
    assert "its history is not shown" in said.notes[0]


def test_what_no_sheet_says() -> None:
    for number in ("nobody has it", "unknown"):
        evidence, answer = ask(number)
        with pytest.raises(Refused, match="a sheet says valid or not valid"):
            sheet.make_sheet(evidence, answer, trust(), KEY)


def test_a_number_that_fits_into_no_qr_code() -> None:
    ledger = make_town()
    ledger.admit("issued", "长" * 340)
    evidence = ledger.evidence("长" * 340)
    answer = check(evidence, trust(), ledger.now)
    with pytest.raises(Malformed, match="too long for a QR code"):
        sheet.make_sheet(evidence, answer, trust(), KEY)


def test_it_holds_as_long_as_the_policy_says() -> None:
    text = make("plain")
    assert look(text, later=DAY - times.SECOND).answer == verdict.VALID
    for said in (look(text, later=DAY + times.SECOND), look(text, later=300 * DAY)):
        assert (said.answer, said.reason) == (verdict.CANNOT_DECIDE, "checkpoint-stale")
    strict = trust(max_checkpoint_age_seconds=60)
    assert look(text, strict, later=61 * times.SECOND).reason == "checkpoint-stale"
    lax = trust(max_checkpoint_age_seconds=30 * 86_400)
    assert look(text, lax, later=2 * DAY).reason == "checkpoint-stale"  # the maker's policy counts
    assert look(text, later=-9 * DAY).checks[5].why.endswith("is this machine's clock right?")


def test_it_holds_no_longer_than_its_answer() -> None:
    lax = trust(max_checkpoint_age_seconds=366 * 86_400)
    with_limit = sheet.parse_sheet(make("plain", lax)).statement
    assert with_limit.holds_until == town().now + DAY  # the issuer's limit of silence
    evidence, answer = ask("future", lax)
    answer = replace(answer, issuer_freshness=None)
    begins = sheet.parse_sheet(sheet.make_sheet(evidence, answer, lax, KEY)).statement.holds_until
    assert times.format_moment(begins) == "2026-05-31T16:00:00Z"
    text = sheet.make_sheet(evidence, answer, lax, KEY)
    assert look(text, lax, later=begins - town().now - 1).reason == "not-yet-valid"
    assert look(text, lax, later=begins - town().now).reason == "checkpoint-stale"


def test_what_is_over_stays_over() -> None:
    assert look(make("penalty"), later=40 * DAY).reason == "revoked-penalty"


def test_a_sheet_of_another_certificate_decides_nothing() -> None:
    text = make("plain")
    assert look(text, number="plain", issuer="a", type_code=world.TYPE).answer == verdict.VALID
    for own in ({"number": "other"}, {"issuer": "b"}, {"type_code": "T"}):
        said = look(text, **own)
        assert (said.answer, said.reason) == (verdict.CANNOT_DECIDE, "another-certificate")


# --- forged ---


def test_only_the_sheet_key_signs_sheets() -> None:
    text = make("penalty")
    valid = replace(sheet.parse_sheet(text).statement, answer="valid", reason="in-force")
    for signer in (
        world.CHECKPOINT,
        world.OPERATOR,
        world.bundle_signer("a"),
        world.signer(sheet.key_name(world.ORIGIN), "another"),
    ):
        signature = (signer.key.key_hash, signer.sign(valid.text()))
        forged = replace(sheet.parse_sheet(text), statement=valid, signature=signature)
        said = look(sheet.format_sheet(forged))
        assert (said.answer, said.reason) == (verdict.CANNOT_DECIDE, verdict.REFUSED)
        assert said.refused is not None
        assert said.refused.name == "status"
        # nor in the sheet key's name
        named = replace(forged, signature=(KEY.key.key_hash, signature[1]))
        assert look(sheet.format_sheet(named)).reason == verdict.REFUSED


def test_a_trust_file_without_sheet_keys_believes_no_sheet() -> None:
    assert look(make("plain"), trust(sheet_keys=())).reason == verdict.REFUSED


def test_a_key_of_another_role_is_none_though_the_trust_file_names_it() -> None:
    text = make("plain", signer=world.OPERATOR)
    said = look(text, trust(sheet_keys=(world.OPERATOR.key,)))
    assert said.why == f"status: '{world.ORIGIN}/operator' does not sign sheets"


def test_every_field_is_signed() -> None:
    text = make("plain")
    found = sheet.parse_sheet(text)
    changes: dict[str, Any] = {
        "certificate": replace(found.statement.certificate, number="other"),
        "responsible": "b",
        "answer": "not-valid",
        "reason": "expired",
        "version": 2,
        "valid_from": None,
        "valid_until": "2099-12-31+08:00",
        "since": None,
        "holds_until": found.statement.holds_until + DAY,
        "record": bytes(32),
        "size": found.statement.size + 1,
        "root": bytes(32),
        "ledger_time": found.statement.ledger_time + times.SECOND,
    }
    assert changes.keys() == {*sheet.Statement.__slots__} - {"origin"}
    del changes["answer"], changes["reason"]
    for name, value in changes.items():
        altered = replace(found, statement=replace(found.statement, **{name: value}))
        assert look(sheet.format_sheet(altered)).reason == verdict.REFUSED, name
    said = replace(found.statement, answer="not-valid", reason="expired")
    assert look(sheet.format_sheet(replace(found, statement=said))).reason == verdict.REFUSED


def test_the_checkpoint_must_be_the_ledgers() -> None:
    text = make("plain")
    for members in ({"size": 45}, {"root": bytes(32)}, {"origin": "other.example/log"}):
        assert look(resigned(text, **members)).checks[3].result == verdict.FAILED
    bare = replace(sheet.parse_sheet(text), cosigned=())
    assert look(sheet.format_sheet(bare)).why.startswith("checkpoint: ")
    past = trust(keys=(TrustedKey(world.CHECKPOINT.key, 0, 1 << 40, town().now),))
    assert "retired" in look(text, past).why
    later = trust(keys=(TrustedKey(world.CHECKPOINT.key, 1 << 40, None),))
    assert "no key is named" in look(text, later).why


def test_witnesses_and_ml_dsa() -> None:
    evidence, _ = ask("plain")
    checkpoint, _ = parse_checkpoint(evidence.checkpoint)
    witnesses = [Cosigner(f"w{n}.example", COSIGNATURE_V1, bytes([n]) * 32) for n in (1, 2, 3)]
    own = Cosigner(world.ORIGIN, ML_DSA_44, b"o" * 32)
    seconds = town().now // times.SECOND
    lines = [each.cosign(checkpoint.text(), seconds) for each in (own, *witnesses)]
    evidence = replace(evidence, checkpoint=add_signatures(evidence.checkpoint, lines))
    names = [Witness(f"w{n}", w.key, "") for n, w in enumerate(witnesses)]
    keys = (TrustedKey(world.CHECKPOINT.key, 0, None), TrustedKey(own.key, 0, None))
    quorum = (TrustedQuorum(simple_policy(names, 2), 0, None),)
    said = trust(keys=keys, quorums=quorum)
    text = sheet.make_sheet(evidence, check(evidence, said, town().now), said, KEY)
    assert len(text) < 1200
    answer = look(text, said)
    assert answer.answer == verdict.VALID
    assert answer.checks[3].why.endswith("(3 did); ML-DSA-44: not checked (sheet)")
    found = sheet.parse_sheet(text)
    for kept in (found.cosigned[:2], found.cosigned[1:]):
        stripped = sheet.format_sheet(replace(found, cosigned=kept))
        assert look(stripped, said).reason == verdict.REFUSED
    # who stole the sheet key makes up a time; the witnesses' he cannot
    times_to_come = {"ledger_time": town().now + 2 * DAY, "holds_until": town().now + 3 * DAY}
    stolen = look(resigned(text, **times_to_come), said, later=2 * DAY)
    assert (stolen.answer, stolen.reason) == (verdict.CANNOT_DECIDE, "witness-times-disagree")
    alone = trust(keys=keys[1:])
    unsigned = look(text, alone)
    assert unsigned.reason == "signature-unsupported"
    assert (unsigned.found, unsigned.ledger_time) == (None, None), "anybody may have said it"


def altered(rng: random.Random, text: str) -> str:
    """The text altered; its signature made to fit again in half of the cases."""
    choice = rng.random()
    if choice < 0.3:
        place = rng.randrange(len(text))
        return text[:place] + rng.choice("0Z: é\n") + text[place + 1 :]
    data = bytearray(sheet.decode_base45(text[len(sheet.PREFIX) :]))
    end = data.index(0)
    if choice < 0.5:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        said = data[:end].decode()
        lines = said.split("\n")
        n = rng.randrange(12)
        words = lines[n].split(" ")
        words[rng.randrange(len(words))] = rng.choice(
            (
                "-",
                "0",
                "open",
                "unknown",
                "valid",
                "2026-03-09T00:00:00Z",
                "é",
                "",
                "b",
                "7",
                "A" * 44,
            )
        )
        lines[n] = " ".join(words)
        text_again = "\n".join(lines).encode()
        rest = KEY.key.key_hash + KEY.sign(text_again) + bytes(data[end + 69 :])
        data = bytearray(text_again + b"\0" + rest)
    return sheet.PREFIX + sheet.encode_base45(bytes(data))


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as one:
        yield one


@needs_node
def test_the_browser_says_the_same_of_true_and_altered_sheets(node: Node) -> None:
    rng = random.Random("sheets")
    true = [make(number) for number in NUMBERS]
    cases = [(text, trust(), later) for text in true for later in (0, 2 * DAY, -2 * DAY)]
    cases += [(altered(rng, rng.choice(true)), trust(), 0) for _ in range(300)]
    cases += [(true[0], trust(sheet_keys=()), 0), (true[0], trust(origin="o"), 0)]
    cases += [
        (text, trust(), 0) for text in ("", "CERTLEDGER1:", "CERTLEDGER1:0", "x" * 2000, "😀")
    ]
    tasks = [
        {
            "kind": "sheet",
            "text": text,
            "trust": format_trust(said).decode(),
            "question": {"now": str(town().now + later)},
        }
        for text, said, later in cases
    ]
    answers = set()
    for (text, said, later), theirs in zip(cases, node.perform(tasks), strict=True):
        ours = outcome(lambda t=text, s=said, n=later: look(t, s, n).members())
        assert json.dumps(theirs) == json.dumps(ours), text
        answers.add(ours["result"]["answer"])
    assert answers == {"valid", "not-valid", "cannot-decide"}


def test_any_text_gives_an_answer() -> None:
    rng = random.Random("any")
    true = make("plain")
    for _ in range(300):
        said = look(altered(rng, true))
        assert said.exit in (0, 1, 4)


# --- paper ---


def picture(text: str, scale: int = 4) -> Image.Image:
    file = BytesIO()
    segno.make_qr(text, error="m").save(file, kind="png", scale=scale, border=4)
    return Image.open(file).convert("RGB")


def test_a_photo_is_read(tmp_path: Path) -> None:
    text = make("湘长市监许 2023-0403/7")
    code = picture(text)
    paper = Image.new("RGB", (1000, 1400), (240, 238, 230))
    paper.paste(code, (300, 200))
    photos = {
        "plain.png": paper,
        "turned.jpg": paper.rotate(12, expand=True, fillcolor=(90, 90, 90)),
        "blurred.jpg": paper.filter(ImageFilter.GaussianBlur(1.2)),
        "inverted.png": Image.eval(paper, lambda value: 255 - value),
    }
    for name, photo in photos.items():
        photo.save(tmp_path / name)
        assert read_sheet(tmp_path / name) == text, name


def test_what_is_no_picture_of_a_sheet(tmp_path: Path) -> None:
    two = Image.new("RGB", (1200, 600), "white")
    two.paste(picture(make("plain"), 3), (0, 0))
    two.paste(picture(make("penalty"), 3), (600, 0))
    two.save(tmp_path / "two.png")
    Image.new("RGB", (300, 300), "white").save(tmp_path / "none.png")
    picture("https://example.com/").save(tmp_path / "other.png")
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.4 no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "two.png").read_bytes()[:900])
    for name, why in (
        ("two.png", "shows 2 sheets"),
        ("none.png", "no sheet's QR code"),
        ("other.png", "QR codes of others"),
        ("paper.pdf", "no picture that can be read"),
        ("cut.png", "picture"),
        ("missing.png", "No such file"),
    ):
        with pytest.raises(Malformed, match=why):
            read_sheet(tmp_path / name)


def test_the_page_in_three_forms(tmp_path: Path) -> None:
    evidence, answer = ask("湘长市监许 2023-0403/7")
    text = sheet.make_sheet(evidence, answer, trust(), KEY)
    items = lay_out(text, answer, trust())
    pdf = draw_pdf(items, "certledger")
    assert pdf.startswith(b"%PDF-")
    assert pdf == draw_pdf(items, "certledger")
    assert pdf.count(b"/Type /Page\n") == 1
    svg = draw_svg(items, "a <title>")
    root = xml.fromstring(svg)
    words = "\n".join(element.text or "" for element in root)
    for part in ("湘长市监许 2023-0403/7", "VALID", "有效", "营业执照", "2026-12-31+08:00"):
        assert part in words
    assert sheet.parse_sheet(text).statement.reference in words
    assert "does not prove" in words
    assert draw_html(items, "<b>").count("<svg") == 1
    assert "<title>&lt;b&gt;</title>" in draw_html(items, "<b>")
    heights = [item.y for item in items]
    assert max(heights) < 297 - 15


def test_hostile_texts_on_the_page() -> None:
    ledger = make_town()
    number = '<script>alert("1")</script>\u202e&amp; ' + "长" * 150
    ledger.admit("issued", number)
    evidence = ledger.evidence(number)
    answer = check(evidence, trust(), ledger.now)
    text = sheet.make_sheet(evidence, answer, trust(), KEY)
    items = lay_out(text, answer, trust())
    html = draw_html(items, number)
    assert "<script" not in html
    assert "\u202e" not in "".join(getattr(item, "text", "") for item in items)
    assert max(item.y for item in items) < 297
    assert draw_pdf(items, number).startswith(b"%PDF-")


def test_a_parsed_sheet_or_an_error() -> None:
    for text in ("", sheet.PREFIX, sheet.PREFIX + "00", "é" * 3000):
        with pytest.raises(LedgerError):
            sheet.parse_sheet(text)
