"""Status lists and notices of ends through the running stack, with a clock that tests move."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from kafka import KafkaConsumer, TopicPartition

from ledger import identity, statuslist, times, topics
from ledger.kafka_address import client_settings
from ledger.keys import load_key
from ledger.trust import parse_trust
from tests import world
from tests.http_serving import Served, serving
from tests.running_stack import ROOT, Department, RunningStack, wait_until

DAY = 86_400  # seconds


@pytest.fixture(scope="module")
def department(stack: RunningStack) -> Iterator[Department]:
    made = Department(stack, "a")
    stack.registrar.set_type(("a", world.ALL_ACTS, "own"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(stack: RunningStack, department: Department) -> Iterator[Served]:
    with serving(stack.postgres) as running:
        yield running


def day_in(days: int) -> str:
    """The day so many days after today, at +08:00."""
    moment = (int(time.time()) + days * DAY + 8 * 3600) * times.SECOND
    return times.format_moment(moment)[:10] + "+08:00"


def key_of(number: str) -> bytes:
    return identity.certificate_key(world.TYPE, "a", number)


def read_notices(stack: RunningStack) -> list[tuple[bytes, bytes]]:
    """Key and value of everything in the topic."""
    consumer: Any = KafkaConsumer(
        **client_settings(stack.kafka), group_id=None, enable_auto_commit=False
    )
    found = []
    for partition in (0, 1):
        place = TopicPartition(topics.EXPIRY, partition)
        consumer.assign([place])
        consumer.seek_to_beginning()
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    headers = dict(record.headers)
                    assert headers["content-type"].startswith(b"application/cloudevents+json")
                    found.append((record.key, record.value))
    consumer.close()
    return found


def wait_until_followed(stack: RunningStack) -> None:
    """All published entries are followed and everything kept is sent."""

    def is_done() -> bool:
        ((size, follower, sent, kept),) = stack.rows(
            "SELECT (SELECT max(size) FROM checkpoint WHERE published_at IS NOT NULL),"
            " (SELECT position FROM relay WHERE name = 'follower'),"
            " (SELECT coalesce(max(position), 0) FROM relay WHERE name = 'expiry'),"
            " (SELECT count(*) FROM expiry_notice)"
        )
        return bool(size == follower and sent == kept)

    wait_until(is_done, 60)


def wait_for_kept(stack: RunningStack, count: int) -> None:
    query = "SELECT count(*) FROM expiry_notice"
    wait_until(lambda: stack.rows(query)[0][0] >= count, 60)


def command(stack: RunningStack, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments, "--data", str(stack.data)],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
    )


def test_ends_are_announced_once_through_kills_and_clock_changes(
    stack: RunningStack, department: Department
) -> None:
    count = 40
    until = day_in(35)
    numbers = [f"ending-{n}" for n in range(count)]
    department.publish([department.event("issued", n, valid_until=until) for n in numbers])
    department.publish(
        [department.event("issued", "ended", valid_from="2020-01-01Z", valid_until="2021-01-01Z")]
    )
    department.settle()
    wait_until_followed(stack)
    end = times.day_end(until) // times.SECOND
    now = int(time.time())
    assert read_notices(stack) == []

    stack.crash_at("follower writes")
    stack.set_clock(end - 30 * DAY - now)
    stack.wait_for_crash(60)
    wait_for_kept(stack, count)
    stack.crash_at("expiry sent")
    stack.set_clock(end - 7 * DAY - now)  # while the relay dies over what it sent
    stack.wait_for_crash(60)
    wait_for_kept(stack, 2 * count)

    stack.set_clock(0)  # back by weeks
    time.sleep(2)
    stack.crash_at("follower wrote")
    stack.set_clock(end + 400 * DAY - now)  # and over both other steps at once
    stack.wait_for_crash(60)
    wait_for_kept(stack, 4 * count)
    stack.kill("follower")
    stack.set_clock(0)
    stack.kill("relay")
    wait_until_followed(stack)

    found = read_notices(stack)
    by_id: dict[str, set[tuple[bytes, bytes]]] = {}
    for key, value in found:
        by_id.setdefault(json.loads(value)["id"], set()).add((key, value))
    assert all(len(same) == 1 for same in by_id.values())
    assert len(found) > len(by_id)  # the relay said something twice, under the same id
    said = []
    for ((key, value),) in by_id.values():
        data = json.loads(value)["data"]
        assert key.decode() == key_of(data["certificate_number"]).hex()
        said.append((data["certificate_number"], data["certificate_version"], data["days_before"]))
    assert sorted(said) == sorted((n, 1, step) for n in numbers for step in (30, 7, 3, 0))
    checked = stack.check()
    assert checked["notices of ends"] == len(by_id)
    assert checked["sent notices of ends"] == len(found)


def test_a_wallet_finds_its_status(
    stack: RunningStack, department: Department, served: Served
) -> None:
    department.publish([department.event("issued", n) for n in ("held", "kept")])
    department.publish([department.event("suspended", "held", reason_code="why")])
    department.settle()
    wait_until_followed(stack)
    wait_until(
        lambda: stack.rows("SELECT count(*) FROM status_list WHERE NOT is_changed") == [(1,)], 60
    )
    asked = command(stack, "status-list", "held", "--json")
    assert asked.returncode == 0, asked.stderr
    (version,) = json.loads(asked.stdout)["versions"]
    claim = version["status"]["status_list"]
    assert claim["uri"] == f"https://{world.ORIGIN}/v1/status-lists/1"

    answer = served.ask("/v1/status-lists/1", Accept=statuslist.JWT)
    assert (answer.status, answer.headers["content-type"]) == (200, statuslist.JWT)
    keys = jwt.PyJWKSet.from_json(served.get("/v1/status-lists/keys").decode())
    token = answer.body.decode()
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["EdDSA"])
    assert claims["sub"] == claim["uri"]
    packed = claims["status_list"]["lst"]
    array = zlib.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    assert array[claim["idx"] // 4] >> (claim["idx"] % 4 * 2) & 3 == 2

    (trusted,) = parse_trust((stack.data / "trust.json").read_bytes()).status_list_keys
    path = stack.data / "keys" / "statuslist.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).key == trusted
    assert statuslist.parse_jwt(answer.body, trusted).uri == claim["uri"]
    stack.check()


def test_lists_are_cacheable_files(served: Served) -> None:
    by_type = {
        media: served.ask("/v1/status-lists/1", Accept=media)
        for media in (statuslist.JWT, statuslist.CWT, statuslist.CREDENTIAL)
    }
    for media, answer in by_type.items():
        assert answer.status == 200
        assert answer.headers["content-type"] == media
        assert answer.headers["cache-control"] == "public, max-age=300"
        assert answer.headers["vary"] == "Accept"
        assert answer.headers["access-control-allow-origin"] == "*"
        again = served.ask("/v1/status-lists/1", Accept=media, If_None_Match=answer.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]
        changed = served.ask("/v1/status-lists/1", Accept=media, If_None_Match='"other"')
        assert changed.status == 200
        head = served.ask("/v1/status-lists/1", method="HEAD", Accept=media)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(answer.body))
    assert len({answer.headers["etag"] for answer in by_type.values()}) == 3
    credential = by_type[statuslist.CREDENTIAL]
    assert credential.headers["content-location"] == "/v1/status-lists/1/revocation"
    for purpose in statuslist.PURPOSES:
        answer = served.ask(f"/v1/status-lists/1/{purpose}")
        assert answer.headers["content-type"] == statuslist.CREDENTIAL
    assert served.get("/v1/status-lists/1/revocation") == credential.body


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", statuslist.JWT),
        ("application/*", statuslist.JWT),
        ("text/html, */*;q=0.1", statuslist.JWT),
        ("application/statuslist+jwt;q=0.5, application/statuslist+cwt", statuslist.CWT),
        ("*/*, application/statuslist+jwt;q=0", statuslist.CWT),
        ("APPLICATION/VC+JWT", statuslist.CREDENTIAL),
        ("application/json", None),
        ("text/*", None),
        ("", None),
        ("application/statuslist+jwt;q=0", None),
    ],
)
def test_the_form_is_negotiated(served: Served, accept: str, media: str | None) -> None:
    answer = served.ask("/v1/status-lists/1", Accept=accept)
    if media is None:
        assert answer.status == 406
    else:
        assert (answer.status, answer.headers["content-type"]) == (200, media)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/status-lists", 404),
        ("/v1/status-lists/", 404),
        ("/v1/status-lists/0", 404),
        ("/v1/status-lists/01", 404),
        ("/v1/status-lists/2", 404),
        ("/v1/status-lists/+1", 404),
        ("/v1/status-lists/1/", 404),
        ("/v1/status-lists/1/message", 404),
        ("/v1/status-lists/1/revocation/", 404),
        ("/v1/status-lists//1", 404),
        ("/v1/status-lists/%31", 404),
        ("/v1/status-lists/1%00", 404),
        ("/v1/status-lists/../status-lists/1", 404),
        ("/v1/status-lists/99999999999999999999", 404),
        ("/v1/status-lists/1?time=1686925000", 501),
        ("/v1/status-lists/1?other=1", 200),
    ],
)
def test_only_exact_paths_name_a_list(served: Served, path: str, status: int) -> None:
    answer = served.ask(path)
    assert answer.status == status, answer
    if status != 200:
        assert answer.headers["cache-control"] == "no-store"


def test_lists_are_only_read(served: Served) -> None:
    answer = served.ask("/v1/status-lists/1", method="POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_the_command_writes_lists(stack: RunningStack, served: Served) -> None:
    for arguments, path, accept in (
        ((), "1", statuslist.JWT),
        (("--form", "cwt"), "1", statuslist.CWT),
        (("--form", "w3c", "--purpose", "suspension"), "1/suspension", "*/*"),
    ):
        done = command(stack, "status-list", "--list", "1", *arguments, "-o", "-")
        assert done.returncode == 0, done.stderr
        assert done.stdout == served.ask(f"/v1/status-lists/{path}", Accept=accept).body
    for wrong, code in (
        (("status-list",), 2),
        (("status-list", "kept", "--list", "1"), 2),
        (("status-list", "--list", "1"), 2),
        (("status-list", "--list", "0", "-o", "-"), 2),
        (("status-list", "--list", "9", "-o", "-"), 3),
        (("status-list", "nobody"), 3),
    ):
        done = command(stack, *wrong)
        assert done.returncode == code, (wrong, done)
        assert b"Traceback" not in done.stderr
