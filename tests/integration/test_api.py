"""The HTTP API over a real server and PostgreSQL, held against its own OpenAPI document."""

from __future__ import annotations

import csv
import http.client
import io
import json
import socket
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jsonschema
import pytest
import schemathesis
from hypothesis import Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.routing import Route

from consumers.asking import Asked
from consumers.http.app import build_app
from consumers.http.openapi import DOCUMENT
from consumers.http.page.assets import PREFIX
from consumers.http.questions import make_evidence
from consumers.http.settings import Settings
from deploy.cli import main
from ledger import times
from ledger.bundle import format_record, parse_record
from ledger.checking import check_file
from ledger.errors import CODES, ProofError
from ledger.note import Signature, format_note
from ledger.postgres.connection import connect
from ledger.postgres.reader import Reader
from ledger.receipt import parse_receipt
from ledger.staterow import ITEM, number_hash, pack_item, pack_state, unpack_state
from ledger.trust import parse_trust
from tests import page_ledger, world
from tests.http_serving import Answer, Served, serving
from tests.stored_ledger import StoredLedger, damage, reset


@pytest.fixture(scope="module")
def made(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[StoredLedger, Path]]:
    """A ledger with a certificate in every state; fsck has the last word."""
    reset(module_database_url)
    ledger, trust = page_ledger.make_page_ledger(
        module_database_url, tmp_path_factory.mktemp("api")
    )
    try:
        yield ledger, trust
        ledger.check()
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def served(made: tuple[StoredLedger, Path]) -> Iterator[Served]:
    ledger, trust = made
    with serving(ledger.url, CERTLEDGER_TRUST=str(trust), CERTLEDGER_HTTP_RATE="0") as running:
        yield running


def query(path: str, **parameters: str) -> str:
    return f"{path}?{urlencode(parameters)}"


def ask(served: Served, path: str = "/v1/certificates", **parameters: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(served.get(query(path, **parameters)))
    return value


def post(served: Served, path: str, body: bytes, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()


def batch(served: Served, *lines: Any) -> list[dict[str, Any]]:
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    answer = post(served, "/v1/batch", body)
    assert answer.status == 200, answer
    return [json.loads(line) for line in answer.body.splitlines()]


def problem(answer: Answer, status: int, code: str | None) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(answer.body)
    assert (answer.status, value["status"], value.get("code")) == (status, status, code), value
    assert answer.headers["content-type"] == "application/problem+json"
    return value


NUMBERS = [
    getattr(page_ledger, name)
    for name in (
        *("VALID", "EXPIRED", "SUSPENDED", "FUTURE", "PENALTY", "ANNULLED", "DEREGISTERED"),
        *("TRANSFERRED", "RENEWED", "VOIDED", "RESTATED", "OPEN", "UNKNOWN_START", "TWICE"),
        *("LONG_LIFE", "IDENTIFIER", "SERIAL"),
    )
] + ["nobody has it", page_ledger.VALID[:-1] + "9", *page_ledger.HOSTILE]
MOMENTS: list[dict[str, str]] = [
    {},
    {"at": "2025-06-01"},
    {"at": "2024-01-01T00:00:00Z"},
    {"at": "2031-01-01", "known_at": "2026-02-01T00:00:00Z"},
    {"known_at": "2020-01-01T00:00:00+08:00"},
]


@pytest.mark.parametrize("number", NUMBERS, ids=range(len(NUMBERS)))
def test_unproven_answers_say_what_evidence_proves(
    served: Served, made: tuple[StoredLedger, Path], number: str
) -> None:
    trust = parse_trust(made[1].read_bytes())
    for moments in MOMENTS:
        said = ask(served, number=number, **moments)
        lines = batch(served, {"number": number, "id": 7, **moments})
        assert lines[0]["id"] == 7
        assert {n: v for n, v in said.items() if n not in ("checks", "at", "issuer_freshness")} == {
            n: v for n, v in lines[0].items() if n not in ("line", "id", "at", "issuer_freshness")
        }
        assert {c["result"] for c in said["checks"] if c["name"] != "freshness"} <= {"not-checked"}
        if said["reason"] == "ambiguous":
            problem(served.ask(query("/v1/evidence", number=number, **moments)), 409, "ambiguous")
            continue
        named = {
            name: (said["certificate"][name] or {"type": world.TYPE, "issuer": "a"}[name])
            for name in ("type", "issuer")
        }
        data = served.get(query("/v1/evidence", number=number, **named, **moments))
        now = time.time_ns() // 1000
        proven = check_file(data, trust, now, as_asked=True).members()
        for name in ("answer", "reason", "since", "tree_size", "ledger_time", "known_at"):
            assert proven[name] == said[name], (name, number, moments)
        if said["certificate"]["issuer"]:
            assert proven["certificate"] == said["certificate"]
            assert proven.get("deciding") == said.get("deciding")


def test_an_identifier_is_asked_by_its_check_character(served: Served) -> None:
    asked = ask(served, identifier=page_ledger.IDENTIFIER)
    assert (asked["answer"], asked["certificate"]["number"]) == ("valid", page_ledger.SERIAL)
    wrong = page_ledger.IDENTIFIER[:-1] + "A"
    problem(served.ask(query("/v1/certificates", identifier=wrong)), 400, "malformed-number")
    both = query("/v1/certificates", identifier=wrong, number="1")
    problem(served.ask(both), 400, "usage")
    problem(served.ask("/v1/certificates"), 400, "usage")
    problem(served.ask("/v1/certificates?number=1&number=2"), 400, "usage")
    problem(served.ask("/v1/certificates?number=1&no=2"), 400, "usage")
    problem(served.ask("/v1/certificates?number=%ff"), 400, "usage")
    problem(
        served.ask(query("/v1/certificates", number="1", at="yesterday")), 400, "malformed-time"
    )


def test_history_has_both_times_and_is_kept_until_it_changes(served: Served) -> None:
    path = query("/v1/history", number=page_ledger.RESTATED)
    answer = served.ask(path)
    value = json.loads(answer.body)
    assert value["events"][0]["event"] == "issued"
    assert all(times.parse_moment(event["learned_at"]) for event in value["events"])
    assert served.ask(path, If_None_Match=answer.headers["etag"]).status == 304
    assert served.ask(path, If_None_Match='"other"').status == 200
    problem(served.ask(query("/v1/history", number="nobody has it")), 404, "not-found")
    problem(served.ask(query("/v1/history", number=page_ledger.TWICE)), 409, "ambiguous")


def test_what_was_damaged_is_not_answered(made: tuple[StoredLedger, Path]) -> None:
    ledger, trust = made
    rows = ledger.rows(
        "SELECT map_key, state FROM certificate WHERE number_hash = %s",
        number_hash(page_ledger.VALID),
    )
    ((key, data),) = rows
    standing, link, holder = unpack_state(data)
    longer = standing._replace(valid_until="2099-12-31+08:00")
    other = pack_state(longer, bytes([link[0] ^ 1]) + link[1:], holder)
    change = "UPDATE certificate SET state = %s WHERE map_key = %s"
    with serving(ledger.url, CERTLEDGER_TRUST=str(trust)) as running:
        damage(ledger.url, change, other, key)
        try:
            asked = query("/v1/certificates", number=page_ledger.VALID)
            problem(running.ask(asked), 500, "stored-bytes-damaged")
            (line,) = batch(running, page_ledger.VALID)
            assert line["problem"]["code"] == "stored-bytes-damaged"
        finally:
            damage(ledger.url, change, data, key)
        assert ask(running, number=page_ledger.VALID)["answer"] == "valid"


def test_who_asks_beside_a_damaged_certificate_is_answered(
    made: tuple[StoredLedger, Path],
) -> None:
    """Questions that are worked on together share statements, and no error."""
    ledger, trust = made
    rows = ledger.rows(
        "SELECT map_key, state, history FROM certificate WHERE number_hash = %s",
        number_hash(page_ledger.VALID),
    )
    ((key, state, history),) = rows
    unsealed, count = pack_state(*unpack_state(state)), len(history) // ITEM
    nowhere = b"".join(pack_item(0, position, bytes(4)) for position in range(count))
    change = "UPDATE certificate SET state = %s, history = %s WHERE map_key = %s"
    with serving(ledger.url, CERTLEDGER_TRUST=str(trust)) as running:
        damage(ledger.url, change, unsealed, nowhere, key)
        connection = connect(ledger.url, "test")
        try:
            then = {"number": page_ledger.EXPIRED, "known_at": "2026-02-01T00:00:00Z"}
            damaged, line = batch(running, page_ledger.VALID, then)
            assert damaged["problem"]["code"] == "stored-bytes-damaged"
            assert line["answer"] != "cannot-decide"
            asked = [Asked(page_ledger.VALID), Asked(page_ledger.EXPIRED)]
            with Reader(connection).open() as view:
                error, data = make_evidence(view, asked, ledger.now())
            assert isinstance(error, ProofError)
            assert isinstance(data, bytes)
            answer = check_file(data, parse_trust(trust.read_bytes()), ledger.now())
            assert answer.reason == "expired"
        finally:
            connection.close()
            damage(ledger.url, change, state, history, key)


# --- batches ---


def test_a_batch_answers_each_line_and_goes_on_after_bad_ones(served: Served) -> None:
    lines = batch(
        served,
        page_ledger.VALID,
        {"number": page_ledger.EXPIRED, "id": "x"},
        {"number": 1},
        {"numbre": "1"},
        7,
        {"number": "1", "id": [1]},
        {"identifier": page_ledger.IDENTIFIER, "type": "another"},
        {"number": page_ledger.VALID, "at": "never"},
    )
    assert [line["line"] for line in lines] == list(range(1, 9))
    assert [line.get("answer") for line in lines[:2]] == ["valid", "not-valid"]
    codes = [line.get("problem", {}).get("code") for line in lines[2:]]
    assert codes == ["usage", "usage", "usage", "usage", None, "malformed-time"]
    raw = post(served, "/v1/batch", b'{"number"\n\n\xff\n"1"' + b"x" * 9000 + b'\n"2"')
    told = [json.loads(line) for line in raw.body.splitlines()]
    assert [line.get("problem", {}).get("code") for line in told] == [
        "not-json",
        "not-json",
        "too-large",
        None,
    ]


def test_a_batch_is_answered_while_it_is_sent(served: Served) -> None:
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=60)
    with connection:
        head = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        line = json.dumps(page_ledger.VALID).encode() + b"\n"
        seen = b""
        for n in range(1, 4):
            connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))
            while seen.count(b'"line":%d' % n) < 1:
                piece = connection.recv(65_536)
                assert piece, seen
                seen += piece
        connection.sendall(b"0\r\n\r\n")
        while not seen.endswith(b"0\r\n\r\n"):
            seen += connection.recv(65_536)
    assert seen.startswith(b"HTTP/1.1 200")


# --- tables ---


def test_a_table_comes_back_with_answers_and_evidence(
    served: Served, made: tuple[StoredLedger, Path]
) -> None:
    text = "number,note\n" + "".join(
        f'"{number}",=1+1\n' for number in (page_ledger.VALID, page_ledger.EXPIRED, "none", "")
    )
    answer = post(served, "/v1/bulk", text.encode())
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(answer.body.decode("utf-8-sig"), newline="")))
    assert [row[1:4] for row in rows[1:]] == [
        ["'=1+1", "valid", "in-force"],
        ["'=1+1", "not-valid", "expired"],
        ["'=1+1", "not-found", "not-found"],
        ["'=1+1", "cannot-decide", "usage"],
    ]
    archive = zipfile.ZipFile(io.BytesIO(post(served, "/v1/bulk?evidence=zip", text.encode()).body))
    told = list(csv.reader(io.StringIO(archive.read("answers.csv").decode("utf-8-sig"))))
    trust = parse_trust(made[1].read_bytes())
    proven = [
        check_file(archive.read(row[-1]), trust, time.time_ns() // 1000).answer
        for row in told[1:]
        if row[-1]
    ]
    assert proven[:2] == ["valid", "not-valid"]
    problem(post(served, "/v1/bulk", b""), 400, "usage")
    problem(post(served, "/v1/bulk", b"\xff\xfe"), 400, "usage")
    problem(post(served, "/v1/bulk?evidence=tar", b"1"), 400, "usage")


def test_the_command_answers_a_table(
    made: tuple[StoredLedger, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTLEDGER_POSTGRES", made[0].url)
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(f"number\n{page_ledger.VALID}\n{page_ledger.SUSPENDED}\n")
    archive = tmp_path / "out.zip"

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["bulk", *arguments, "-o", str(out), "--trust", str(made[1])])
        return int(str(ended.value.code))

    assert run(str(source), "--evidence", str(archive)) == 0
    rows = list(csv.reader(io.StringIO(out.read_text("utf-8-sig"))))
    assert [row[1] for row in rows] == ["ledger_answer", "valid", "not-valid"]
    assert zipfile.ZipFile(archive).namelist() == [row[-1] for row in rows[1:]]
    assert run(str(tmp_path / "none.csv")) == 2


# --- departments ---


def test_lanes_and_receipts(served: Served, made: tuple[StoredLedger, Path]) -> None:
    lanes = ask(served, "/v1/lanes", department="a")["lanes"]
    assert [lane["lane"] for lane in lanes] == list(range(len(lanes)))
    place = {"department": "a", "lane": "0", "epoch": "0", "sequence": "0"}
    answer = served.ask(query("/v1/receipts", **place))
    assert answer.headers["cache-control"].endswith("immutable")
    receipt = parse_receipt(answer.body, parse_trust(made[1].read_bytes()).keys)
    assert receipt.header.sequence == 0
    missing = served.ask(query("/v1/receipts", **{**place, "sequence": "999"}))
    assert problem(missing, 404, "not-found")
    assert missing.headers["retry-after"] == "1"
    problem(served.ask(query("/v1/receipts", **{**place, "lane": "01"})), 400, "usage")
    problem(served.ask(query("/v1/receipts", department="a")), 400, "usage")
    problem(served.ask(query("/v1/lanes", department="nobody")), 403, "unknown-department")
    problem(served.ask("/v1/lanes"), 400, "usage")


def test_bundles_of_bad_form_and_without_kafka(
    served: Served, made: tuple[StoredLedger, Path]
) -> None:
    ledger, _ = made
    record = ledger.make(ledger.issued("over HTTP"), "hostile")
    problem(post(served, "/v1/bundles", b""), 400, "malformed-record")
    problem(post(served, "/v1/bundles", record[:-1]), 400, "lines-do-not-match-note")
    problem(post(served, "/v1/bundles", b"x" * (1024 * 1024 + 1)), 413, "too-large")
    problem(post(served, "/v1/bundles", record), 503, "unreachable")
    assert served.ask("/v1/bundles").status == 405


def test_bundles_that_no_department_signed_stay_outside(
    served: Served, made: tuple[StoredLedger, Path]
) -> None:
    """Anybody may send: what went on to the intake topic would be kept as a dead letter."""
    ledger, _ = made
    bundle = parse_record(ledger.make(ledger.issued("by a stranger"), "hostile"))
    header, (line,) = bundle.header, bundle.note.signatures
    owner, stranger = world.bundle_signer("hostile"), world.bundle_signer("hostile", "stranger")
    nobody = replace(header, department="nobody")
    elsewhere = replace(header, origin="elsewhere.example/log")
    false = Signature(line.name, line.key_hash, bytes(64))
    for note, code in (
        (format_note(header.text(), [false]), "bad-signature"),
        (world.make_note(header, stranger), "unknown-key"),
        (world.make_note(nobody, world.bundle_signer("nobody")), "unknown-department"),
        (world.make_note(elsewhere, owner), "foreign-ledger"),
    ):
        problem(post(served, "/v1/bundles", format_record(note, bundle.lines)), 403, code)


def test_what_is_logged_is_not_sent_again(served: Served, made: tuple[StoredLedger, Path]) -> None:
    """There is no Kafka here: what were to be sent would be 503."""
    ledger, _ = made
    heartbeat = ledger.make([])
    assert ledger.send(heartbeat) == {"logged": 1}
    answer = post(served, "/v1/bundles", heartbeat)
    assert answer.status == 202
    assert json.loads(answer.body)["offset"] == ledger.offsets[0] - 1
    assert "department=a" in answer.headers["location"]


# --- limits ---


def test_a_caller_that_asks_too_often_is_told_when_to_come_again(
    made: tuple[StoredLedger, Path],
) -> None:
    ledger, trust = made
    with serving(ledger.url, CERTLEDGER_TRUST=str(trust), CERTLEDGER_HTTP_RATE="2") as running:
        answers = [running.ask("/v1/certificates?number=1") for _ in range(12)]
        refused = [answer for answer in answers if answer.status == 429]
        assert 0 < len(refused) < 12
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        problem(refused[0], 429, None)
        assert running.ask("/log/checkpoint").status == 200
        assert running.ask("/healthz").status == 200


def test_long_urls_and_bodies_where_none_is_meant(served: Served) -> None:
    assert served.ask("/v1/certificates?number=" + "1" * 9000).status == 414
    assert served.ask("/v1/certificates?number=1", Content_Length="5").status == 413


# --- the documents ---


def test_docs_need_no_other_host(served: Served) -> None:
    page = served.ask("/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = page.body.decode()
    assert "://" not in text
    document = json.loads(served.get("/openapi.json"))
    for path in document["paths"]:
        assert path in text
    assert served.ask("/docs", If_None_Match=page.headers["etag"]).status == 304
    assert served.get("/docs.css")


def test_every_route_is_in_the_document(made: tuple[StoredLedger, Path]) -> None:
    app = build_app(Settings(made[0].url))
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    pages = {"/", "/many", "/sheet", "/service", "/savings", "/savings.svg"}
    pages.add(f"{PREFIX}/{{version}}/{{path:path}}")
    own = {"/docs", "/docs.css", "/openapi.json", "/asyncapi.json", "/metrics", "/operator"}
    assert paths - pages - own == DOCUMENT["paths"].keys()


def test_every_code_may_be_a_problem(served: Served) -> None:
    document = json.loads(served.get("/openapi.json"))
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == sorted(
        CODES
    )


def test_lines_of_batches_are_as_the_document_says(served: Served) -> None:
    document = json.loads(served.get("/openapi.json"))
    schema = {"$ref": "#/components/schemas/Answer", "components": document["components"]}
    for line in batch(served, *NUMBERS):
        jsonschema.Draft202012Validator(schema).validate(line)


@schemathesis.serializer("application/x-ndjson")  # type: ignore[untyped-decorator]
def lines_of(_: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


def test_the_whole_api_is_as_its_document_says(served: Served) -> None:
    """Schemathesis over every operation: status codes, bodies, headers, no server errors."""
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        operations += 1
        for case in _cases(operation, 40):
            # which texts are numbers and moments is not for a schema to say
            case.call_and_validate(excluded_checks=[positive_data_acceptance])
    assert operations == len(json.loads(served.get("/openapi.json"))["paths"])


def _cases(operation: Any, count: int) -> list[Any]:
    cases: list[Any] = []

    @given(operation.as_strategy())
    @settings(
        max_examples=count, derandomize=True, deadline=None, database=None, phases=[Phase.generate]
    )
    def collect(case: Any) -> None:
        cases.append(case)

    collect()
    return cases
