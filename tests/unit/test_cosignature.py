"""Cosignatures, policies and what a witness decides, without any I/O."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger import cosignature, merkle
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.checkpoint_keys import TrustedKey, check_signed, format_keys, parse_keys, rotate
from ledger.cosignature import (
    COSIGNATURE_V1,
    ML_DSA_44,
    Cosigner,
    parse_checkpoint_key,
    parse_cosigner_key,
)
from ledger.errors import Conflict, LedgerError, Malformed, ProofError, Refused, Unavailable
from ledger.keys import create_cosigner, format_key, load_cosigner, load_key, parse_cosigner
from ledger.note import Signature, format_lines, format_note, parse_note, sign
from ledger.policy import Policy, format_policy, parse_policy
from ledger.trust import Trust, TrustedQuorum, format_trust, parse_trust
from ledger.witnessing import (
    MAX_REQUEST,
    Seen,
    add_signatures,
    check_advance,
    check_log,
    format_request,
    parse_answer,
    parse_request,
    parse_size,
)
from tests import world

NOW = 1_772_323_200
TEXT = Checkpoint(world.ORIGIN, 8, bytes(range(32))).text()
KINDS = (COSIGNATURE_V1, ML_DSA_44)


def cosigner(name: str = "witness.example/w1", kind: int = COSIGNATURE_V1) -> Cosigner:
    return Cosigner(name, kind, sha256(f"test key {name} {kind}".encode()).digest())


def signed(*signatures: Signature, text: bytes = TEXT) -> bytes:
    return add_signatures(sign(text, [world.CHECKPOINT]), signatures)


# --- cosignatures ---------------------------------------------------------------------------------


def test_a_v1_cosignature_is_what_the_specification_says() -> None:
    key = cosigner().key
    line = cosigner().cosign(TEXT, NOW)
    assert int.from_bytes(line.signature[:8], "big") == NOW
    message = f"cosignature/v1\ntime {NOW}\n".encode() + TEXT
    Ed25519PublicKey.from_public_bytes(key.public).verify(line.signature[8:], message)
    name, hash_hex, payload = str(key).split("+", 2)
    raw = base64.b64decode(payload)
    assert raw == b"\x04" + key.public
    assert sha256(f"{name}\n".encode() + raw).digest()[:4].hex() == hash_hex
    assert line.key_hash.hex() == hash_hex


def test_an_ml_dsa_cosignature_signs_name_time_origin_size_and_root() -> None:
    key = cosigner(kind=ML_DSA_44).key
    assert key.message(TEXT, NOW) == (
        b"subtree/v1\n\0"
        + bytes([len(key.name)])
        + key.name.encode()
        + NOW.to_bytes(8, "big")
        + bytes([len(world.ORIGIN)])
        + world.ORIGIN.encode()
        + bytes(8)
        + (8).to_bytes(8, "big")
        + bytes(range(32))
    )
    assert len(cosigner(kind=ML_DSA_44).cosign(TEXT, NOW).signature) == 8 + 2420


@pytest.mark.parametrize("kind", KINDS)
def test_only_its_own_signature_of_this_text_and_time_counts(kind: int) -> None:
    key, good = cosigner(kind=kind).key, cosigner(kind=kind).cosign(TEXT, NOW).signature
    key.check(TEXT, good)
    other = Checkpoint(world.ORIGIN, 9, bytes(range(32))).text()
    later = (NOW + 1).to_bytes(8, "big") + good[8:]
    for text, raw in (
        (other, good),
        (TEXT, later),
        (TEXT, good[:-1]),
        (TEXT, good + b"\0"),
        (TEXT, good[:-1] + bytes([good[-1] ^ 1])),
        (TEXT, b"\xff" + good[1:]),
        (TEXT, b""),
    ):
        with pytest.raises(LedgerError):
            key.check(text, raw)
    renamed = cosigner("witness.example/w2", kind).key
    with pytest.raises(ProofError):
        renamed.check(TEXT, good)


def test_without_ml_dsa_nothing_passes_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    key, line = cosigner(kind=ML_DSA_44).key, cosigner(kind=ML_DSA_44).cosign(TEXT, NOW)

    def lacking() -> Any:
        raise cosignature._lacking()

    monkeypatch.setattr(cosignature, "_ml_dsa", lacking)
    with pytest.raises(Unavailable, match="cryptography"):
        key.check(TEXT, line.signature)
    with pytest.raises(Unavailable):
        check_signed([TrustedKey(key, 0, None)], *parse_checkpoint(signed(line)))


@pytest.mark.parametrize("kind", KINDS)
def test_keys_go_through_vkeys_and_files(kind: int, tmp_path: Any) -> None:
    key = cosigner(kind=kind).key
    assert parse_cosigner_key(str(key)) == parse_checkpoint_key(str(key)) == key
    made = create_cosigner(tmp_path / "k", "a.example", kind)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert load_cosigner(tmp_path / "k").key == made.key
    with pytest.raises(Malformed, match="note's key"):
        load_key(tmp_path / "k")
    with pytest.raises(FileExistsError):
        create_cosigner(tmp_path / "k", "a.example", kind)


def test_bad_keys_are_refused() -> None:
    with pytest.raises(Malformed):
        parse_cosigner_key(str(world.CHECKPOINT.key))
    with pytest.raises(Malformed):
        parse_cosigner_key(str(cosigner().key).replace("w1", "w2"))
    long = "n" * 256
    with pytest.raises(Malformed):
        format_key(long, bytes(32), ML_DSA_44)
    with pytest.raises(Malformed):
        parse_cosigner_key(cosignature.format_vkey(long, ML_DSA_44, bytes(1312)))
    with pytest.raises(Malformed):
        parse_cosigner(format_key("a.example", bytes(32)))
    with pytest.raises(Malformed):
        format_key("a.example", bytes(32), 5)


def test_an_origin_too_long_for_ml_dsa_is_refused() -> None:
    text = Checkpoint("o" * 256, 1, bytes(32)).text()
    with pytest.raises(Malformed):
        cosigner(kind=ML_DSA_44).cosign(text, NOW)
    with pytest.raises(Malformed):
        cosigner().cosign(TEXT, 2**63)


# --- keys by size ---------------------------------------------------------------------------------


def test_each_size_has_its_keys_and_stripping_one_is_refused() -> None:
    pq = cosigner(world.ORIGIN, ML_DSA_44)
    new = world.signer(world.ORIGIN, "new")
    keys = rotate((), [world.CHECKPOINT.key, pq.key], 0)
    both = signed(pq.cosign(TEXT, NOW))
    check_signed(keys, *parse_checkpoint(both))
    for stripped in (signed(), format_note(TEXT, [pq.cosign(TEXT, NOW)])):
        with pytest.raises(ProofError, match="no signature by"):
            check_signed(keys, *parse_checkpoint(stripped))
    rotated = rotate(keys, [new.key], 8)
    assert parse_keys(format_keys(rotated)) == tuple(rotated)
    check_signed(rotated, *parse_checkpoint(sign(TEXT, [new])))
    with pytest.raises(ProofError):
        check_signed(rotated, *parse_checkpoint(both))
    older = Checkpoint(world.ORIGIN, 7, bytes(32)).text()
    check_signed(rotated, *parse_checkpoint(signed(pq.cosign(older, NOW), text=older)))


# --- policies -------------------------------------------------------------------------------------


def policy(text: str, count: int = 3) -> Policy:
    keys = {f"<{n}>": str(cosigner(f"w{n}").key) for n in range(1, count + 1)}
    for name, vkey in keys.items():
        text = text.replace(name, vkey)
    return parse_policy(text.encode())


NESTED = """
# two of three, and the other one
 witness a <1> http://a.example/x
witness\tb <2>
witness c <3>
witness d <4>
group abc 2 a b c
group all-of-them all abc d
quorum all-of-them
"""


def test_a_quorum_of_groups() -> None:
    nested = policy(NESTED, 4)
    assert nested.witnesses[0].url == "http://a.example/x"
    assert nested.is_met({"a", "c", "d"})
    assert not nested.is_met({"a", "b", "c"})
    assert not nested.is_met({"a", "d"})
    assert parse_policy(format_policy(nested)) == nested
    assert policy("quorum none\n").is_met(())
    assert policy("witness w <1>\nquorum w\n").is_met({"w"})
    assert policy("witness a <1>\nwitness b <2>\ngroup g any a b\nquorum g\n").is_met({"b"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "witness a <1>\n",
        "quorum none",
        "quorum none\nquorum none\n",
        "quorum a\nwitness a <1>\n",
        "witness none <1>\nquorum none\n",
        "witness a <1>\nwitness a <2>\nquorum a\n",
        "witness a <1>\nwitness b <1>\nquorum a\n",
        "witness a <1>\ngroup g 2 a\nquorum g\n",
        "witness a <1>\ngroup g 0 a\nquorum g\n",
        "witness a <1>\ngroup g 01 a\nquorum g\n",
        "witness a <1>\ngroup g any a a\nquorum g\n",
        "witness a <1>\ngroup g any a\ngroup h any a\nquorum g\n",
        "group g any none\nquorum g\n",
        "group g any\nquorum none\n",
        "witness a <1> http://x y\nquorum a\n",
        f"witness a {world.CHECKPOINT.key}\nquorum a\n",
        f"log {world.CHECKPOINT.key}\nlog {world.CHECKPOINT.key}\nquorum none\n",
        "what is this\nquorum none\n",
        "quorum none\r\n",
        "quorum none\f\n",
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        policy(text)
    assert refused.value.code == "malformed-policy"


def test_bytes_that_are_no_text_are_allowed_in_names() -> None:
    vkey = str(cosigner("w1").key).encode()
    odd = parse_policy(b"# \xff\nwitness \xe2\x84 %s\nquorum \xe2\x84\n" % vkey)
    assert odd.is_met({odd.witnesses[0].name})
    assert parse_policy(format_policy(odd)) == odd


# --- the trust file -------------------------------------------------------------------------------

TWO_OF_THREE = "witness a <1>\nwitness b <2>\nwitness c <3>\ngroup g 2 a b c\nquorum g\n"


def trust(**members: Any) -> Trust:
    quorum = TrustedQuorum(policy(TWO_OF_THREE), 5, None)
    return Trust(
        **{
            "origin": world.ORIGIN,
            "genesis": bytes(32),
            "keys": world.CHECKPOINT_KEYS,
            "quorums": (quorum,),
            **members,
        }
    )


def test_the_quorum_is_needed_from_its_size_on() -> None:
    lines = [cosigner(f"w{n}").cosign(TEXT, NOW + n) for n in (1, 2, 3)]
    found = trust()
    assert found.check_checkpoint(signed(*lines[:2])).size == 8
    assert found.cosignatures(signed(*lines)) == {"a": NOW + 1, "b": NOW + 2, "c": NOW + 3}
    for few in (lines[:1], []):
        with pytest.raises(ProofError, match="quorum") as refused:
            found.check_checkpoint(signed(*few))
        assert refused.value.code == "checkpoint-refused"
    older = Checkpoint(world.ORIGIN, 4, bytes(32)).text()
    found.check_checkpoint(signed(text=older))
    assert parse_trust(format_trust(found)) == found


def test_a_false_line_in_a_witness_s_name_is_refused_though_others_are_enough() -> None:
    lines = [cosigner(f"w{n}").cosign(TEXT, NOW) for n in (1, 2)]
    key = cosigner("w3").key
    forged = Signature(key.name, key.key_hash, lines[0].signature)
    with pytest.raises(ProofError) as refused:
        trust().check_checkpoint(signed(*lines, forged))
    assert refused.value.code == "checkpoint-refused"


def test_witness_times_far_from_the_ledger_s_do_not_count() -> None:
    found = trust()
    assert found.is_witnessed(8, {"a": NOW, "b": NOW + 300}, NOW)
    assert not found.is_witnessed(8, {"a": NOW, "b": NOW + 301}, NOW)
    assert not found.is_witnessed(8, {"a": NOW - 301, "b": NOW}, NOW)
    assert found.is_witnessed(8, {"a": NOW, "b": NOW + 301, "c": NOW}, NOW)
    assert found.is_witnessed(4, {}, NOW)


def test_a_policy_s_logs_count_where_it_names_any() -> None:
    other = world.signer(world.ORIGIN, "other")
    named = parse_policy(f"log {other.key}\nquorum none\n".encode())
    found = trust(quorums=(TrustedQuorum(named, 0, None),))
    with pytest.raises(ProofError):
        found.check_checkpoint(signed())
    both = format_note(
        TEXT, [*parse_note(signed()).signatures, *parse_note(sign(TEXT, [other])).signatures]
    )
    found.check_checkpoint(both)


# --- what a witness decides -----------------------------------------------------------------------

LEAVES = [merkle.leaf_hash(str(n).encode()) for n in range(20)]


def checkpoint(size: int, leaves: list[bytes] | None = None) -> bytes:
    root = merkle.root((leaves or LEAVES)[:size])
    return sign(Checkpoint(world.ORIGIN, size, root).text(), [world.CHECKPOINT])


def proof(old: int, new: int) -> list[bytes]:
    return merkle.prove_consistency(old, new, merkle.in_memory(LEAVES[:new]))


def seen(size: int) -> Seen:
    return Seen(size, merkle.root(LEAVES[:size]))


def test_a_witness_goes_forward_only() -> None:
    first = parse_request(format_request(0, [], checkpoint(7)))
    check_log(first, [world.CHECKPOINT.key])
    check_advance(Seen(), first)
    check_advance(seen(7), parse_request(format_request(7, proof(7, 20), checkpoint(20))))
    check_advance(seen(7), parse_request(format_request(7, [], checkpoint(7))))
    for stale in (0, 6):
        body = format_request(stale, proof(stale, 20) if stale else [], checkpoint(20))
        with pytest.raises(Conflict):
            check_advance(seen(7), parse_request(body))


def test_a_witness_does_not_go_sideways() -> None:
    other = [*LEAVES[:6], *(merkle.leaf_hash(b"other") for _ in range(14))]
    for body in (
        format_request(7, proof(7, 20), checkpoint(20, other)),
        format_request(7, [], checkpoint(7, other)),
        format_request(7, proof(7, 20)[:-1], checkpoint(20)),
        format_request(7, [*proof(7, 20), bytes(32)], checkpoint(20)),
        format_request(7, [bytes(32)], checkpoint(7)),
    ):
        with pytest.raises(ProofError):
            check_advance(seen(7), parse_request(body))
    with pytest.raises(ProofError):
        check_advance(Seen(), parse_request(format_request(0, [bytes(32)], checkpoint(7))))
    empty = sign(Checkpoint(world.ORIGIN, 0, bytes(32)).text(), [world.CHECKPOINT])
    with pytest.raises(ProofError):
        check_advance(Seen(), parse_request(format_request(0, [], empty)))


def test_whose_checkpoint_it_is() -> None:
    request = parse_request(format_request(0, [], checkpoint(7)))
    with pytest.raises(Refused, match="does not know") as refused:
        check_log(request, [])
    assert refused.value.code == "unknown-log"
    stranger = world.signer(world.ORIGIN, "stranger")
    with pytest.raises(Refused):
        check_log(request, [stranger.key])
    line = parse_note(checkpoint(6)).signatures[0]
    false = format_note(parse_note(checkpoint(7)).text, [line])
    with pytest.raises(Refused):
        check_log(parse_request(format_request(0, [], false)), [world.CHECKPOINT.key])
    with pytest.raises(Malformed):
        parse_request(format_request(0, [], add_signatures(checkpoint(7), [line])))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old -1\n\n" + checkpoint(7),
        b"old 00\n\n" + checkpoint(7),
        b"old 8\n\n" + checkpoint(7),
        b"old 0\n\n" + checkpoint(7)[:-1],
        b"old 0\n" + checkpoint(7),
        b"Old 0\n\n" + checkpoint(7),
        b"old 1\nAAAA\n\n" + checkpoint(7),
        b"old 1\n" + b"A" * 43 + b"=\n" * 64 + b"\n" + checkpoint(7),
        b"old 1\n" + (b"A" * 43 + b"=\n") * 64 + b"\n" + checkpoint(7),
        b"old \xff\n\n" + checkpoint(7),
        b"x" * (MAX_REQUEST + 1),
    ],
)
def test_bodies_that_are_no_request(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse_request(body)


def test_checkpoints_of_other_logs_may_have_more_lines() -> None:
    text = TEXT + b"an extension\n"
    note = sign(text, [world.CHECKPOINT])
    assert parse_request(format_request(0, [], note)).checkpoint.size == 8
    with pytest.raises(Malformed):
        parse_checkpoint(note)
    with pytest.raises(Malformed):
        parse_checkpoint(sign(TEXT + b"\nx\n", [world.CHECKPOINT]), extensions=True)


# --- what we take from a witness ------------------------------------------------------------------


def answer(*signatures: Signature) -> bytes:
    return format_lines(signatures)


@pytest.mark.parametrize("kind", KINDS)
def test_the_witness_s_own_line_is_taken_out_of_an_answer(kind: int) -> None:
    own, other = cosigner(kind=kind), cosigner("witness.example/w2")
    lines = answer(other.cosign(TEXT, NOW), own.cosign(TEXT, NOW))
    taken = parse_answer(lines, TEXT, own.key, NOW + 5, 300)
    assert taken.key_hash == own.key.key_hash
    assert trust_me(taken, own)


def trust_me(line: Signature, own: Cosigner) -> bool:
    own.key.check(TEXT, line.signature)
    return True


OTHER_TEXT = Checkpoint(world.ORIGIN, 9, bytes(32)).text()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"\n",
        b"\xff\xfe",
        answer(cosigner("witness.example/w2").cosign(TEXT, NOW)),
        answer(cosigner().cosign(OTHER_TEXT, NOW)),
        answer(cosigner().cosign(TEXT, NOW - 301)),
        answer(cosigner().cosign(TEXT, NOW + 301)),
        answer(cosigner().cosign(TEXT, NOW), cosigner().cosign(OTHER_TEXT, NOW)),
        b"\n" + OTHER_TEXT + b"\n" + answer(cosigner().cosign(OTHER_TEXT, NOW)),
        answer(cosigner().cosign(TEXT, NOW))[:-1],
        answer(*[cosigner().cosign(TEXT, NOW)] * 65),
    ],
)
def test_answers_that_are_no_cosignature(data: bytes) -> None:
    with pytest.raises(ProofError) as refused:
        parse_answer(data, TEXT, cosigner().key, NOW, 300)
    assert refused.value.code == "witness-refused"


def test_the_size_in_a_conflict() -> None:
    assert parse_size(b"17\n") == 17
    for bad in (b"17", b"-1\n", b"\n", b"017\n", b"9" * 30 + b"\n", b"\xff\n", b"1 7\n"):
        with pytest.raises(ProofError):
            parse_size(bad)
