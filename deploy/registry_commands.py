"""`certledger department`, `key`, `type`: the registry from the operator's machine."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

from consumers.words import plain
from deploy.environment import Environment
from deploy.ledger_keys import finish_rotation, prepare_keys, register_keys, settle_files
from deploy.passphrases import new_passphrase
from deploy.registration import parse_grants, parse_names
from deploy.witnesses import tell_embedded, untell_embedded
from ledger.errors import Refused, Unavailable
from ledger.identity import pseudonym_check
from ledger.keys import encrypt_file, load_key
from ledger.note import parse_vkey
from ledger.registry import BUNDLE_ROLE, PSEUDONYMS, REGISTRY_ROLE, Registry
from ledger.times import parse_moment
from producers.config import (
    load_secret,
    pseudonym_path,
    pseudonym_secrets,
    set_checkpoint_keys,
    use_pseudonym_version,
)
from producers.correcting import CERTIFICATE, CONFIRM, DAYS, REWIND

ROLES = (BUNDLE_ROLE, REGISTRY_ROLE)


def add_commands(commands: Any) -> None:
    """Add the registry's commands to the command line."""
    _add_department(commands)
    _add_key(commands)
    _add_type(commands)
    _add_pseudonym_secret(commands)


def _add_department(commands: Any) -> None:
    parser = commands.add_parser(
        "department",
        help="register departments, list them",
        description="Who publishes. Every change is a signed note and an entry of the log.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser(
        "add",
        help="register a department, with new keys in DIR/departments/ID",
        description="Register a department. Its keys are made in DIR/departments/ID; keep them.",
        epilog="example:\n  certledger department add transport --name zh=交通运输局 --name "
        "en=Transport \\\n    --zone Asia/Shanghai --silence-limit 86400 --lanes 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("id", help="short id of letters, digits, dot, hyphen; for ever")
    add.add_argument(
        "--name",
        action="append",
        required=True,
        metavar="LANG=TEXT",
        help="name in a language, repeatable: zh=交通运输局",
    )
    add.add_argument("--authority-code", default="", help="unified social credit code (GB 32100)")
    add.add_argument("--zone", default="Asia/Shanghai", help="IANA time zone of its days")
    add.add_argument("--contact", default="", help="whom to ask, shown with answers")
    add.add_argument(
        "--silence-limit",
        type=int,
        metavar="SECONDS",
        help="after this long without a bundle its answers are stale; left out: silent by nature",
    )
    add.add_argument("--lanes", type=int, default=1, help="lanes that it publishes on (default 1)")
    add.set_defaults(run=run_department_add)
    limit = verbs.add_parser(
        "silence-limit",
        help="declare another silence limit",
        description="Signed by the department's registry key. Publishers take it up, with their\n"
        "heartbeats, when they start anew: lower it after that, raise it before.",
        epilog="example:\n  certledger department silence-limit transport 86400",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    limit.add_argument("id")
    limit.add_argument("seconds", metavar="SECONDS|none", type=_limit)
    limit.set_defaults(run=run_department_silence_limit)
    lanes = verbs.add_parser(
        "lanes",
        help="give a department more or fewer lanes",
        description="Signed by the department's registry key and the operator. All lanes begin\n"
        "anew: what is under way is fenced, running publishers of the department stop, and when\n"
        "they start again they bundle anew what has no receipt, in its order. Where they run on\n"
        'another machine, put the new "lanes" into their publisher.json.',
        epilog="example:\n  certledger department lanes transport 4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lanes.add_argument("id")
    lanes.add_argument("lanes", metavar="N", type=int, help="1 to 1024")
    lanes.set_defaults(run=run_department_lanes)
    credentials = verbs.add_parser(
        "credentials",
        help="give a department new Kafka credentials",
        description="New Kafka credentials for a department, in DIR/departments/ID/kafka.json:\n"
        "they write to the intake topic, read receipts, notices, recalls and lane states, and\n"
        "do nothing else. New connections need the new ones at once, open ones within an hour.",
        epilog="examples:\n  certledger department credentials transport\n"
        "  certledger department credentials transport --bytes-per-second 1000000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    credentials.add_argument("id")
    credentials.add_argument(
        "--bytes-per-second",
        type=_rate,
        metavar="N",
        help="the most that it sends, and the most that it reads (left out: as before)",
    )
    credentials.set_defaults(run=run_department_credentials)
    listing = verbs.add_parser(
        "list",
        help="list departments, their keys and lanes",
        description="List departments, their keys and lanes.",
        epilog="example:\n  certledger department list --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.add_argument("--json", action="store_true", help="as JSON on standard output")
    listing.set_defaults(run=run_department_list)


def _add_key(commands: Any) -> None:
    parser = commands.add_parser("key", help="add, rotate and revoke departments' keys")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser(
        "add",
        help="register one more key file of a department",
        description="The key signs too (proof of possession), and so does the previous one.",
        epilog="example:\n  certledger key add transport second.key --role bundle",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("department")
    add.add_argument("file", help="key file (PRIVATE+KEY+…, mode 0600)")
    add.add_argument("--role", choices=ROLES, default=BUNDLE_ROLE)
    add.set_defaults(run=run_key_add)
    rotate = verbs.add_parser(
        "rotate",
        help="a new key in place of the one in DIR/departments/ID",
        description="Make a new key, register it, revoke the one in DIR/departments/ID.",
        epilog="example:\n  certledger key rotate transport --role bundle",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rotate.add_argument("department")
    rotate.add_argument("--role", choices=ROLES, default=BUNDLE_ROLE)
    rotate.set_defaults(run=run_key_rotate)
    ledger = verbs.add_parser(
        "rotate-ledger",
        help="new keys for the ledger's checkpoints",
        description="Make a new Ed25519 and a new ML-DSA-44 key, have the operator, the old and\n"
        "the new key sign the change, and write DIR/trust.json with both and their sizes.\n"
        "Witnesses that others run must know the new keys first: --prepare shows them.\n"
        "Afterwards they must forget the old ones: --finish shows those.",
        epilog="examples:\n  certledger key rotate-ledger --prepare\n"
        "  certledger key rotate-ledger\n  certledger key rotate-ledger --finish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    step = ledger.add_mutually_exclusive_group()
    step.add_argument("--prepare", action="store_true", help="only make the new keys and show them")
    step.add_argument(
        "--finish",
        action="store_true",
        help="when the new keys have published: remove the old ones and show which they were",
    )
    ledger.set_defaults(run=run_key_rotate_ledger)
    recover = verbs.add_parser(
        "recover",
        help="a new key for a department that lost one",
        description="Where no valid key of a role is at hand to sign for the next one: make a new\n"
        "key in DIR/departments/ID and announce it in the log, signed by the operator (for a\n"
        "bundle key by the department's registry key, where it is here). Until the delay is over\n"
        "the department can object (`key object`), and answers say what is announced. The same\n"
        "command again, after the delay, registers the key and puts it in place; answers that\n"
        "rest on it say for good that it came without the previous one. Revoke the lost key then.",
        epilog="examples:\n  certledger key recover transport --role registry\n"
        "  certledger key recover transport --role bundle --delay-days 14",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    recover.add_argument("department")
    recover.add_argument("--role", choices=ROLES, required=True)
    recover.add_argument(
        "--delay-days", type=int, default=7, metavar="N", help="7 to 365 (default 7)"
    )
    recover.set_defaults(run=run_key_recover)
    objection = verbs.add_parser(
        "object",
        help="object to the recovery of a department's key that is announced",
        description="Sign with the department's registry key, where it is here, that nothing is\n"
        "lost: then nothing is left of the announcement. The operator can withdraw one.",
        epilog="example:\n  certledger key object transport --role registry",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    objection.add_argument("department")
    objection.add_argument("--role", choices=ROLES, required=True)
    objection.set_defaults(run=run_key_object)
    encrypt = verbs.add_parser(
        "encrypt",
        help="put key files under a passphrase",
        description="Put key files under a passphrase, in place: of the ledger (DIR/keys), of\n"
        "departments (DIR/departments/ID), of witnesses. Files that are encrypted already get\n"
        "the new passphrase. Programs find it by CERTLEDGER_PASSPHRASE_FILE (a file of mode 0600,\n"
        "best one that is gone with the power); commands at a terminal ask for it.",
        epilog="examples:\n  certledger key encrypt town/keys/*.key\n"
        "  certledger key encrypt town/keys/operator.key --passphrase-file /run/ledger/words",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    encrypt.add_argument("files", type=Path, nargs="+", metavar="FILE")
    encrypt.add_argument(
        "--passphrase-file", type=Path, metavar="F", help="holds the new one (default: ask for it)"
    )
    encrypt.set_defaults(run=run_key_encrypt)
    revoke = verbs.add_parser(
        "revoke",
        help="revoke a key from the next log index on, or from earlier",
        description="Revoke a key: nothing that it signs is admitted from the next log index on.\n"
        "With --since what it signed from then on is doubted: it stays logged, and answers that\n"
        "rest on it decide nothing until the department confirms or corrects each event\n"
        "(`key doubtful` lists them for `correct`). A doubt can begin earlier later, never later.",
        epilog="examples:\n  certledger key revoke transport "
        "2f11bec89e1f12a00e4fee249001e508db16422caa3f6de99fd98d7d040cdee8\n"
        "  certledger key revoke transport 2f11…dee8 --since 2026-03-01T08:00:00+08:00",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    revoke.add_argument("department")
    revoke.add_argument("key_id", help="64 hex digits, as `department list` shows")
    revoke.add_argument(
        "--since", metavar="INDEX|MOMENT", help="an earlier log index, or the moment it was logged"
    )
    revoke.set_defaults(run=run_key_revoke)
    doubtful = verbs.add_parser(
        "doubtful",
        help="list what keys signed that are revoked from earlier, as a sheet for `correct`",
        description="List the events of a department that are doubtful and neither confirmed nor\n"
        "corrected, as a CSV file for `certledger correct --file`: each row confirms its event.\n"
        "Write void, or restate with its days, where it was not the department's word.\n"
        "With --rewind one row for each certificate, however many events a thief made of it: the\n"
        "certificate stands again as before the first doubtful one. What the department itself\n"
        "said of it since falls, too, and has to be published again; so far as a good key signed\n"
        "it, it is listed on standard error.",
        epilog="examples:\n  certledger key doubtful transport > doubtful.csv\n"
        "  certledger key doubtful transport --rewind > rewind.csv\n"
        "  certledger correct --file rewind.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doubtful.add_argument("department")
    doubtful.add_argument(
        "--rewind",
        action="store_true",
        help="take back all since the key was stolen, certificate by certificate",
    )
    doubtful.add_argument("--reason", default="key-compromised", help="the rows' reason code")
    doubtful.set_defaults(run=run_key_doubtful)


def _add_type(commands: Any) -> None:
    parser = commands.add_parser("type", help="register certificate types and who may act on them")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser(
        "add",
        help="register a certificate type, or change who may act",
        description="Register a certificate type and who may do what to it, or change that.",
        epilog="example:\n  certledger type add taxi --name zh=道路运输证 --name en='Taxi permit' "
        "\\\n    --grant transport:issued,renewed,revoked --grant market:revoked:any",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("code", help="the type's code in the ledger")
    add.add_argument("--name", action="append", required=True, metavar="LANG=TEXT")
    add.add_argument("--standard-code", default="", help="21-character type code of GB/T 36904")
    add.add_argument(
        "--grant",
        action="append",
        required=True,
        metavar="DEPT:ACTS[:any]",
        help="who may do what: acts separated by commas, or all; `any` lets it act on other "
        "departments' certificates; or one JSON list",
    )
    add.set_defaults(run=run_type_add)


def _add_pseudonym_secret(commands: Any) -> None:
    parser = commands.add_parser(
        "pseudonym-secret",
        help="versions of the secret behind holders' pseudonyms",
        description="Departments share one secret, DIR/pseudonym-VERSION.key (0600). The registry "
        "names all its versions with a check value each, so that everybody knows how many proofs "
        "say everything of a holder, and a department whether it holds the right secret. It "
        "travels between departments outside the ledger, never by mail or chat. Version 1 is "
        "announced with the first department.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser(
        "add",
        help="make the next version and announce it",
        description="Departments go on with the old version until `use`. Old versions stay: what "
        "was\nbound under them is found by their pseudonyms only.",
        epilog="example:\n  certledger pseudonym-secret add",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.set_defaults(run=run_pseudonym_secret_add)
    use = verbs.add_parser(
        "use",
        help="let the departments of DIR use a version from their next start on",
        description="The version's file must be in DIR and be the one that the registry names.",
        epilog="example:\n  certledger pseudonym-secret use 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    use.add_argument("version", type=int)
    use.set_defaults(run=run_pseudonym_secret_use)
    listing = verbs.add_parser(
        "list",
        help="versions in the registry, and which of them are here",
        description="Versions in the registry, and which of them are here.",
        epilog="example:\n  certledger pseudonym-secret list --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.add_argument("--json", action="store_true", help="as JSON on standard output")
    listing.set_defaults(run=run_pseudonym_secret_list)


def run_department_add(args: argparse.Namespace, env: Environment) -> int:
    """certledger department add"""
    index = env.registration().add_department(
        args.id,
        parse_names(args.name),
        authority_code=args.authority_code,
        time_zone=args.zone,
        contact=args.contact,
        silence_limit_seconds=args.silence_limit,
        lanes=args.lanes,
    )
    print(
        f"{args.id} is registered up to log index {index}; its keys are in "
        f"{env.data / 'departments' / args.id}"
    )
    return 0


def _limit(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**53:
        raise argparse.ArgumentTypeError("a number of seconds from 1, or none")
    return int(text)


def _rate(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1000 <= int(text) < 2**40:
        raise argparse.ArgumentTypeError("a number of bytes per second from 1000")
    return int(text)


def run_department_credentials(args: argparse.Namespace, env: Environment) -> int:
    """certledger department credentials"""
    registration = env.registration()
    if registration.read().value(f"department/{args.id}") is None:
        raise Refused("unknown-department", f"no department {args.id[:63]!r}")
    path = registration.renew_credentials(args.id, args.bytes_per_second)
    if path is None:
        raise Unavailable("unreachable", "this Kafka wants no credentials: its address names none")
    print(f"{args.id}: new Kafka credentials in {path}")
    return 0


def run_department_silence_limit(args: argparse.Namespace, env: Environment) -> int:
    """certledger department silence-limit"""
    index = env.registration().set_silence_limit(args.id, args.seconds)
    said = "silent by nature" if args.seconds is None else f"silent for at most {args.seconds} s"
    print(f"{args.id}: {said}, " + ("as before" if index is None else f"from log index {index} on"))
    return 0


def run_department_lanes(args: argparse.Namespace, env: Environment) -> int:
    """certledger department lanes"""
    index = env.registration().set_lanes(args.id, args.lanes)
    said = "as before" if index is None else f"from log index {index} on: start its publishers anew"
    print(f"{args.id}: {args.lanes} lanes, {said}")
    return 0


def run_department_list(args: argparse.Namespace, env: Environment) -> int:
    """certledger department list"""
    found = env.registration().read()
    rows = [_department(found, department) for department in found.departments()]
    if args.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return 0
    for row in rows:
        names = " ".join(row["names"].values())
        print(f"{row['id']}  {names}  {row['time_zone']}  {row['lanes']} lanes")
        for key in row["keys"]:
            state = "active" if key["revoked"] is None else f"revoked at {key['revoked']}"
            if "doubted_from" in key:
                state += f", doubted from {key['doubted_from']}"
            if "recovered" in key:
                state += f", recovered as {key['recovered']} announced"
            print(f"    {key['role']:8} {key['id']}  from {key['from']}, {state}")
        for role, told in row.get("recovery", {}).items():
            print(f"    {role:8} recovery from {told['from']}, as {told['announced']} announced")
    return 0


def _department(found: Registry, department: str) -> dict[str, Any]:
    keys = [
        {"id": parse_vkey(value["vkey"]).key_id, **value}
        for role in ROLES
        for _, value in found.keys(department, role)
    ]
    return {"id": department, **(found.value(f"department/{department}") or {}), "keys": keys}


def run_key_encrypt(args: argparse.Namespace, env: Environment) -> int:
    """certledger key encrypt"""
    passphrase = new_passphrase(args.passphrase_file)
    for path in args.files:
        print(f"{path}: {encrypt_file(path, passphrase)} is encrypted")
    return 0


def run_key_add(args: argparse.Namespace, env: Environment) -> int:
    """certledger key add"""
    key = load_key(Path(args.file))
    index = env.registration().add_key(args.department, args.role, key)
    print(f"key {key.key.key_id} is registered at log index {index}")
    return 0


def run_key_rotate(args: argparse.Namespace, env: Environment) -> int:
    """certledger key rotate"""
    index, new, old = env.registration().rotate_key(args.department, args.role)
    print(f"key {new} signs from now on; {old} is revoked from log index {index}")
    return 0


def run_key_recover(args: argparse.Namespace, env: Environment) -> int:
    """certledger key recover"""
    delay = args.delay_days * 86_400
    key_id, index, begin = env.registration().recover_key(args.department, args.role, delay)
    if begin is None:
        print(f"key {key_id} is registered at log index {index}, without the previous one")
    else:
        print(
            f"entry {index} announces key {key_id}: from {begin} on the same command registers it, "
            "unless somebody objects"
        )
    return 0


def run_key_object(args: argparse.Namespace, env: Environment) -> int:
    """certledger key object"""
    index = env.registration().object_to_recovery(args.department, args.role)
    print(f"entry {index} says that nothing is lost: no recovery stands")
    return 0


def run_key_rotate_ledger(args: argparse.Namespace, env: Environment) -> int:
    """certledger key rotate-ledger"""
    registration = env.registration()
    folder = env.data / "keys"
    if args.finish:
        retired = finish_rotation(registration, folder)
        for vkey in retired:
            untell_embedded(env.data, vkey)
            print(vkey)
        return 0
    new = prepare_keys(folder, env.origin)
    if args.prepare:
        print(f"{new.checkpoint.key}\n{new.cosigner.key}")
        return 0
    for key in new:
        tell_embedded(env.data, str(key.key))
    size = register_keys(registration, folder, new)
    set_checkpoint_keys(env.data, registration.read().checkpoint_keys)
    registration.write_trust()
    settle_files(registration, folder)
    print(
        f"new keys sign every checkpoint of {size} leaves on; {env.trust} names them, and the old "
        "ones for smaller ones: give it to whoever checks answers"
    )
    return 0


def run_key_revoke(args: argparse.Namespace, env: Environment) -> int:
    """certledger key revoke"""
    registration, since = env.registration(), None
    if args.since is not None and args.since.isascii() and args.since.isdigit():
        since = int(args.since)
    elif args.since is not None:
        since = registration.index_at(parse_moment(args.since))
    index = registration.revoke_key(args.department, args.key_id, since)
    print(f"key {args.key_id} is revoked from log index {index}")
    if since is not None:
        print(
            f"what it signed from log index {since} on is doubted: `certledger key doubtful "
            f"{args.department}` lists it"
        )
    return 0


def run_key_doubtful(args: argparse.Namespace, env: Environment) -> int:
    """certledger key doubtful"""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["event_id", "event", *CERTIFICATE, "correction", *DAYS, "reason_code"])
    no_days = ["" for _ in DAYS]
    if not args.rewind:
        for certificate, event_id, kind in env.find_doubtful(args.department):
            rows.writerow([event_id, kind, *certificate, CONFIRM, *no_days, args.reason])
        return 0
    for certificate, event_id, kind, good in env.find_rewinds(args.department):
        rows.writerow([event_id, kind, *certificate, REWIND, *no_days, args.reason])
        if good:
            said = f"say again afterwards, by a good key and not doubtful: {', '.join(good)}"
            print(f"{' '.join(map(plain, certificate))}: {said}", file=sys.stderr)
    return 0


def run_type_add(args: argparse.Namespace, env: Environment) -> int:
    """certledger type add"""
    index = env.registration().add_type(
        args.code, parse_names(args.name), parse_grants(args.grant), args.standard_code
    )
    print(
        f"type {args.code} "
        + ("says this already" if index is None else f"is registered at log index {index}")
    )
    return 0


def run_pseudonym_secret_add(args: argparse.Namespace, env: Environment) -> int:
    """certledger pseudonym-secret add"""
    version, index = env.registration().add_pseudonym_version()
    print(
        f"version {version} is announced at log index {index}; the secret is in "
        f"{pseudonym_path(env.data, version)}: give it to the departments, then "
        f"`certledger pseudonym-secret use {version}`"
    )
    return 0


def run_pseudonym_secret_use(args: argparse.Namespace, env: Environment) -> int:
    """certledger pseudonym-secret use"""
    env.registration().check_pseudonym_secret(args.version)
    changed = use_pseudonym_version(env.data, args.version)
    print(
        f"version {args.version} from the next start on: {', '.join(changed) or 'all did already'}"
    )
    return 0


def run_pseudonym_secret_list(args: argparse.Namespace, env: Environment) -> int:
    """certledger pseudonym-secret list"""
    value = env.registration().read().value(PSEUDONYMS) or {"versions": []}
    here = {v: pseudonym_check(load_secret(p)) for v, p in pseudonym_secrets(env.data).items()}
    rows = [
        {
            **item,
            "here": None if item["version"] not in here else here[item["version"]] == item["check"],
        }
        for item in value["versions"]
    ]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    words = {None: "not in this folder", True: "in this folder", False: "ANOTHER is in this folder"}
    for row in rows:
        print(f"version {row['version']}  from {row['from']}  {words[row['here']]}")
    return 0
