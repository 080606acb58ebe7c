"""Test vectors for notes, checkpoints, tiles and tlog-proofs, as JSON files that anybody may use.

    python tests/vectors/generate_vectors.py           are the files what this makes? exit 0 or 1
    python tests/vectors/generate_vectors.py --write   make them again

A case is named for what is damaged in it and says so in a sentence; `valid` is what a reader must
find. Both our code (test_own_vectors.py) and Go's (tests/go) are held against them.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, too

from consumers.http.tile_paths import TilePath, entries_path
from ledger import logbundle, merkle, tiles
from ledger.checkpoint import Checkpoint, format_proof
from ledger.note import MemorySigner, Signature, format_note, sign
from tests.world import signer

FOLDER = Path(__file__).parent
ORIGIN = "log.example/vectors"
LOG = signer(ORIGIN)
WITNESS = signer("witness.example/w1")
STRANGER = signer(ORIGIN, "another key of the same name")
SIZES = (1, 2, 3, 255, 256, 257, 511, 512, 1000, 65_536, 65_793)
TEXT = b"log.example/vectors\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"

Case = dict[str, Any]


def make() -> dict[str, dict[str, Any]]:
    """All files: name to content."""
    return {
        "notes.json": {
            "about": "C2SP signed-note: open each note with the keys.",
            "cases": notes(),
        },
        "checkpoints.json": {
            "about": "C2SP tlog-checkpoint without extension lines: the checkpoint of an origin, "
            "signed by the key; size and hex root.",
            "cases": checkpoints(),
        },
        "tiles.json": {
            "about": "C2SP tlog-tiles: leaf n is the text `entry n`; the SHA-256 of every tile and "
            "entry bundle of the tree of a size; a consistency proof (RFC 9162) from another size.",
            "trees": trees(),
        },
        "proofs.json": {
            "about": "C2SP tlog-proof without the extra line: does the proof lead from the entry "
            "to a checkpoint signed by the key?",
            "cases": proofs(),
        },
    }


# --- notes ---------------------------------------------------------------------------------------


def notes() -> list[Case]:
    signed = sign(TEXT, [LOG])
    both = sign(TEXT, [LOG, WITNESS])
    raw = LOG.sign(TEXT)
    flipped = raw[:10] + bytes([raw[10] ^ 1]) + raw[11:]
    line = signed.split(b"\n\n")[1].decode()

    def case(name: str, about: str, note: bytes | str, *signers: str, **more: Any) -> Case:
        text = note if isinstance(note, str) else note.decode()
        vkeys = more.get("vkeys", [str(LOG.key), str(WITNESS.key)])
        return {
            "name": name,
            "about": about,
            "vkeys": vkeys,
            "note": text,
            "valid": bool(signers),
            "text": more.get("text", TEXT.decode()) if signers else "",
            "signers": list(signers),
        }

    def damaged(name: str, about: str, note: bytes | str) -> Case:
        return case(name, about, note)

    def signature(name: str, key_hash: bytes, value: bytes) -> bytes:
        return format_note(TEXT, [Signature(name, key_hash, value)])

    empty = "\n"
    paragraphs = b"a text\n\nwith an empty line\n"
    return [
        case("one-signature", "Signed by one of the two keys.", signed, ORIGIN),
        case("two-signatures", "Signed by both keys.", both, ORIGIN, WITNESS.key.name),
        case(
            "unknown-signature-beside",
            "A signature of a key that the reader does not know is passed over.",
            both,
            ORIGIN,
            vkeys=[str(LOG.key)],
        ),
        case(
            "unknown-algorithm-beside",
            "So is a line of another length, which another algorithm may have made.",
            format_note(
                TEXT,
                [
                    Signature(ORIGIN, LOG.key.key_hash, raw),
                    Signature("other.example", b"\x01\x02\x03\x04", b"x" * 17),
                ],
            ),
            ORIGIN,
        ),
        case(
            "empty-line-in-the-text",
            "The last empty line ends the text, not the first.",
            sign(paragraphs, [LOG]),
            ORIGIN,
            text=paragraphs.decode(),
        ),
        damaged(
            "signature-flipped-bit",
            "One bit of the signature differs.",
            signature(ORIGIN, LOG.key.key_hash, flipped),
        ),
        damaged(
            "signature-short",
            "The signature lacks its last byte.",
            signature(ORIGIN, LOG.key.key_hash, raw[:-1]),
        ),
        damaged(
            "text-altered",
            "The size in the text is another one.",
            signed.replace(b"\n1\n", b"\n2\n", 1),
        ),
        damaged(
            "text-newline-added",
            "A line was added to the text.",
            signed.replace(b"\n\n", b"\nx\n\n", 1),
        ),
        damaged(
            "key-hash-of-another-key",
            "Name of one key, key hash of the other.",
            signature(ORIGIN, WITNESS.key.key_hash, raw),
        ),
        damaged(
            "key-of-the-same-name",
            "Signed by another key of the same name.",
            sign(TEXT, [STRANGER]),
        ),
        damaged(
            "signature-of-another-role",
            "The witness's signature under the log's name.",
            signature(ORIGIN, LOG.key.key_hash, WITNESS.sign(TEXT)),
        ),
        damaged(
            "false-signature-first",
            "Two signatures of one key, the first one false.",
            format_note(
                TEXT,
                [
                    Signature(ORIGIN, LOG.key.key_hash, flipped),
                    Signature(ORIGIN, LOG.key.key_hash, raw),
                ],
            ),
        ),
        damaged("no-signature", "A text and an empty line only.", TEXT + b"\n"),
        damaged(
            "no-empty-line",
            "Signature line right below the text.",
            signed.replace(b"\n\n", b"\n", 1),
        ),
        damaged("no-newline-at-the-end", "The last newline is missing.", signed[:-1]),
        damaged(
            "hyphen-for-dash",
            "A hyphen in the place of the em dash.",
            signed.replace("—".encode(), b"-"),
        ),
        damaged(
            "two-spaces",
            "Two spaces behind the dash.",
            signed.replace("— ".encode(), "—  ".encode()),
        ),
        damaged("carriage-return", "Lines end in CR LF.", signed.replace(b"\n", b"\r\n")),
        damaged(
            "control-character", "U+0007 in the text, signed as it is.", sign(b"a\x07b\n", [LOG])
        ),
        damaged(
            "base64-junk",
            "A character that is not base64 in the signature.",
            signed.replace(line[-4:].encode(), b"!" + line[-3:].encode()),
        ),
        damaged(
            "no-key-hash",
            "A signature of three bytes.",
            TEXT + b"\n" + f"— {ORIGIN} AAAA\n".encode(),
        ),
        damaged("empty", "Nothing at all.", ""),
        damaged("empty-line-only", "One newline.", empty),
    ]


# --- checkpoints ---------------------------------------------------------------------------------


def checkpoints() -> list[Case]:
    root = sha256(b"a root").digest()
    encoded = base64.b64encode(root).decode()

    def case(name: str, about: str, lines: Sequence[str], valid: bool = False, **more: Any) -> Case:
        by: MemorySigner = more.get("by", LOG)
        text = "".join(f"{line}\n" for line in lines).encode()
        return {
            "name": name,
            "about": about,
            "origin": ORIGIN,
            "vkey": str(LOG.key),
            "checkpoint": sign(text, [by, *more.get("beside", [])]).decode(),
            "valid": valid,
            "size": int(lines[1]) if valid else 0,
            "root": root.hex() if valid else "",
        }

    good = [ORIGIN, "8", encoded]
    return [
        case("checkpoint", "Origin, size, root.", good, True),
        case("cosigned", "A witness's signature beside.", good, True, beside=[WITNESS]),
        case(
            "empty-tree-size",
            "Size 0; this example's root is not the empty tree's.",
            [ORIGIN, "0", encoded],
            True,
        ),
        case("largest-size", "2^63 - 1.", [ORIGIN, str(2**63 - 1), encoded], True),
        case("size-too-large", "2^63.", [ORIGIN, str(2**63), encoded]),
        case("size-leading-zero", "A size has no leading zero.", [ORIGIN, "08", encoded]),
        case("size-signed", "A size has no sign.", [ORIGIN, "+8", encoded]),
        case("size-negative", "A size is not negative.", [ORIGIN, "-8", encoded]),
        case("size-not-decimal", "Decimal, not hex.", [ORIGIN, "0x8", encoded]),
        case("size-with-space", "No space before it.", [ORIGIN, " 8", encoded]),
        case("size-foreign-digits", "Arabic-Indic digits are none.", [ORIGIN, "\u0668", encoded]),
        case("size-missing", "Two lines.", [ORIGIN, encoded]),
        case("root-missing", "Two lines.", [ORIGIN, "8"]),
        case("root-short", "31 bytes.", [ORIGIN, "8", base64.b64encode(root[:31]).decode()]),
        case("root-long", "33 bytes.", [ORIGIN, "8", base64.b64encode(root + b"x").decode()]),
        case("root-hex", "A root is base64.", [ORIGIN, "8", root.hex()]),
        case("root-without-padding", "Padding is part of it.", [ORIGIN, "8", encoded.rstrip("=")]),
        case(
            "root-junk-bits",
            "The last character carries bits that are not part of the root.",
            [ORIGIN, "8", encoded[:-2] + _next(encoded[-2]) + "="],
        ),
        case(
            "foreign-origin",
            "Another log's checkpoint, signed by this one's key.",
            ["log.example/other", "8", encoded],
        ),
        case("origin-empty", "An empty first line.", ["", "8", encoded]),
        case("other-key", "Signed by another key of the same name.", good, by=STRANGER),
        case("witness-only", "Signed by a witness and not by the log.", good, by=WITNESS),
        case(
            "extension-line",
            "This log's checkpoints have none (the specification allows them).",
            [*good, "extension"],
        ),
    ]


def _next(character: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return alphabet[alphabet.index(character) ^ 1]


# --- tiles ---------------------------------------------------------------------------------------


def leaf(number: int) -> bytes:
    """Entry `number` of every tree."""
    return f"entry {number}".encode()


def trees() -> list[Case]:
    hashes = [merkle.leaf_hash(leaf(n)) for n in range(max(SIZES))]
    kept: dict[tuple[int, int], bytes] = {}

    def read(level: int, index: int) -> bytes:
        return kept.get((level, index), b"")

    made = []
    size = before = 0
    for wanted in SIZES:
        kept |= tiles.extend(size, hashes[size:wanted], read)
        before, size = size, wanted
        subtree = tiles.subtree_reader(read)
        old = merkle.tree_root(before, subtree) if before else b""
        path = merkle.prove_consistency(before, size, subtree) if before else []
        made.append(
            {
                "size": size,
                "root": merkle.tree_root(size, subtree).hex(),
                "hashTiles": {
                    str(TilePath(f"tile/{level}", index, len(data) // 32)): _sha(data)
                    for (level, index), data in sorted(kept.items())
                },
                "entries": {
                    str(entries_path(at // 256, min(size - at, 256))): _sha(
                        logbundle.format_entries([leaf(n) for n in range(at, min(at + 256, size))])
                    )
                    for at in range(0, size, 256)
                },
                "consistentWith": before,
                "rootOfConsistentWith": old.hex(),
                "consistency": [base64.b64encode(value).decode() for value in path],
            }
        )
    return made


def _sha(data: bytes) -> str:
    return sha256(data).hexdigest()


# --- proofs --------------------------------------------------------------------------------------


def proofs() -> list[Case]:
    hashes = [merkle.leaf_hash(leaf(n)) for n in range(300)]

    def proof(index: int, size: int, key: MemorySigner = LOG) -> bytes:
        signed = sign(Checkpoint(ORIGIN, size, merkle.root(hashes[:size])).text(), [key])
        path = merkle.prove_inclusion(index, size, merkle.in_memory(hashes[:size]))
        return format_proof(index, path, signed)

    def case(name: str, about: str, text: bytes, index: int, valid: bool = False) -> Case:
        return {
            "name": name,
            "about": about,
            "vkey": str(LOG.key),
            "entry": leaf(index).decode(),
            "proof": text.decode(),
            "valid": valid,
        }

    good = proof(5, 8)
    lines = good.split(b"\n")
    first, second = lines[2], lines[3]
    return [
        *(
            case(
                f"leaf-{index}-of-{size}",
                "A leaf at an edge of the tree.",
                proof(index, size),
                index,
                True,
            )
            for index, size in (
                (0, 1),
                (0, 2),
                (1, 2),
                (2, 3),
                (5, 8),
                (254, 255),
                (255, 256),
                (256, 257),
                (0, 300),
                (299, 300),
            )
        ),
        case("other-entry", "The proof of another leaf.", good, 4),
        case(
            "index-altered",
            "Index 4 for the proof of leaf 5.",
            good.replace(b"index 5", b"index 4"),
            5,
        ),
        case("index-outside", "Index 8 of 8.", good.replace(b"index 5", b"index 8"), 5),
        case("index-leading-zero", "Written 05.", good.replace(b"index 5", b"index 05"), 5),
        case("index-missing", "No index line.", good.replace(b"index 5\n", b""), 5),
        case(
            "hash-missing", "The last hash is left out.", good.replace(lines[4] + b"\n", b"", 1), 5
        ),
        case(
            "hash-added", "The first hash twice.", good.replace(first, first + b"\n" + first, 1), 5
        ),
        case(
            "hashes-exchanged",
            "The first two in the other order.",
            good.replace(first + b"\n" + second, second + b"\n" + first),
            5,
        ),
        case(
            "hash-short",
            "A hash of 31 bytes.",
            good.replace(first, base64.b64encode(base64.b64decode(first)[:31])),
            5,
        ),
        case(
            "hash-flipped-bit",
            "One bit of a hash differs.",
            good.replace(
                first,
                base64.b64encode(
                    bytes([base64.b64decode(first)[0] ^ 1]) + base64.b64decode(first)[1:]
                ),
            ),
            5,
        ),
        case("other-form", "tlog-proof@v2.", good.replace(b"@v1", b"@v2"), 5),
        case(
            "no-empty-line",
            "The checkpoint right below the hashes.",
            good.replace(b"\n\n", b"\n", 1),
            5,
        ),
        case("no-checkpoint", "Only the head.", good.split(b"\n\n")[0] + b"\n\n", 5),
        case(
            "checkpoint-of-other-size",
            "Checkpoint of 7 leaves under the path in 8.",
            good.split(b"\n\n")[0] + b"\n\n" + proof(5, 7).split(b"\n\n", 1)[1],
            5,
        ),
        case(
            "checkpoint-by-other-key",
            "Signed by another key of the same name.",
            proof(5, 8, STRANGER),
            5,
        ),
        case(
            "checkpoint-altered",
            "Its size was changed after signing.",
            good.replace(b"\n8\n", b"\n9\n"),
            5,
        ),
    ]


# --- the files -----------------------------------------------------------------------------------


def render(content: dict[str, Any]) -> str:
    """A file's text."""
    return json.dumps(content, indent=1, ensure_ascii=True) + "\n"


def main(arguments: Sequence[str]) -> int:
    changed = [name for name, content in make().items() if not _is(name, render(content))]
    if "--write" in arguments:
        for name in changed:
            (FOLDER / name).write_text(render(make()[name]))
        return 0
    for name in changed:
        print(f"tests/vectors/{name} would change: run with --write")
    return 1 if changed else 0


def _is(name: str, text: str) -> bool:
    path = FOLDER / name
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
