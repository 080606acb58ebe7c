"""`python -m tests.vectors.generate_cosignatures` makes the vectors for cosignatures anew."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger.checkpoint import Checkpoint
from ledger.cosignature import COSIGNATURE_V1, ML_DSA_44, Cosigner
from ledger.note import Signature, format_note, sign
from ledger.witnessing import add_signatures
from tests import world

PATH = Path(__file__).parent / "cosignatures" / "cosignatures.json"
SECONDS = 1_772_323_200
TEXT = Checkpoint(world.ORIGIN, 8, sha256(b"a root").digest()).text()
OTHER = Checkpoint(world.ORIGIN, 9, sha256(b"a root").digest()).text()


def seed(name: str, kind: int) -> bytes:
    return sha256(f"test key {name} {kind}".encode()).digest()


def cosigner(name: str, kind: int) -> Cosigner:
    return Cosigner(name, kind, seed(name, kind))


WITNESS = cosigner("witness.example/w1", COSIGNATURE_V1)
PQ_WITNESS = cosigner("witness.example/w1", ML_DSA_44)
LEDGER = cosigner(world.ORIGIN, ML_DSA_44)


def vectors() -> list[dict[str, Any]]:
    """All vectors, newly signed."""
    made: list[dict[str, Any]] = []

    def add(name: str, description: str, result: str, keys: list[Any], note: bytes) -> None:
        made.append(
            {
                "name": name,
                "description": description,
                "vkeys": [str(key) for key in keys],
                "note": note.decode(),
                "result": result,
            }
        )

    for label, signer in (("v1", WITNESS), ("ml-dsa-44", PQ_WITNESS)):
        key = signer.key
        good = signer.cosign(TEXT, SECONDS)

        def line(raw: bytes, key: Any = key) -> bytes:
            return format_note(TEXT, [Signature(key.name, key.key_hash, raw)])

        add(label, "one cosignature", "valid", [key], format_note(TEXT, [good]))
        early = (SECONDS - 1).to_bytes(8, "big") + good.signature[8:]
        add(f"{label}-other-time", "the time was changed", "invalid", [key], line(early))
        add(
            f"{label}-other-size",
            "signed for another size",
            "invalid",
            [key],
            format_note(TEXT, [signer.cosign(OTHER, SECONDS)]),
        )
        flipped = good.signature[:-1] + bytes([good.signature[-1] ^ 1])
        add(f"{label}-last-bit", "the last bit was changed", "invalid", [key], line(flipped))
        add(f"{label}-short", "a byte is missing", "invalid", [key], line(good.signature[:-1]))
        add(f"{label}-long", "a byte too many", "invalid", [key], line(good.signature + b"\0"))
        add(f"{label}-no-time", "the time is missing", "invalid", [key], line(good.signature[8:]))
        renamed = cosigner("witness.example/w1", signer.key.kind)
        renamed.key = type(key)("witness.example/w2", key.kind, key.public)
        stolen = renamed.key
        add(
            f"{label}-other-name",
            "the same key and signature under another name",
            "valid" if label == "v1" else "invalid",  # v1 does not commit to the name
            [stolen],
            line(good.signature, stolen),
        )
    both = add_signatures(sign(TEXT, [world.CHECKPOINT]), [LEDGER.cosign(TEXT, SECONDS)])
    ours = [world.CHECKPOINT.key, LEDGER.key]
    add("ledger", "a ledger's two signatures under its origin's name", "valid", ours, both)
    add(
        "ledger-stripped",
        "the ML-DSA-44 cosignature was taken off",
        "invalid",
        ours,
        sign(TEXT, [world.CHECKPOINT]),
    )
    add(
        "ledger-witnessed",
        "a ledger's two signatures and a witness of either kind",
        "valid",
        [*ours, WITNESS.key, PQ_WITNESS.key],
        add_signatures(both, [WITNESS.cosign(TEXT, SECONDS), PQ_WITNESS.cosign(TEXT, SECONDS)]),
    )
    plain = world.signer("witness.example/w1")
    bare = type(WITNESS.key)("witness.example/w1", COSIGNATURE_V1, plain.key.public)
    add(
        "v1-without-prefix",
        "a note signature of the key, offered as a cosignature",
        "invalid",
        [bare],
        format_note(
            TEXT,
            [Signature(bare.name, bare.key_hash, SECONDS.to_bytes(8, "big") + plain.sign(TEXT))],
        ),
    )
    return made


def main() -> None:
    PATH.write_text(json.dumps(vectors(), ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
