"""`certledger signer`: the checkpoint keys in a process of their own."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from deploy.environment import Environment
from ledger.cosignature import Cosigner
from ledger.errors import Malformed
from ledger.keys import load_signer, passphrase_in
from ledger.logs import FORMAT_VARIABLE, set_up
from ledger.note import Signer
from streams.ending import stop_on_signals
from streams.pkcs11 import TokenSigner
from streams.signer import Guard, serve
from streams.signing import KeyRing


def add_commands(commands: Any) -> None:
    """Add `signer` to the command line."""
    parser = commands.add_parser(
        "signer",
        help="hold the checkpoint keys in a process of their own",
        description="Holds DIR/keys/checkpoint.key and cosigner.key and signs, for whoever\n"
        "reaches its socket, only checkpoints that extend the largest one it ever signed. Run it\n"
        "as an account of its own; the sequencer finds it by CERTLEDGER_SIGNER and needs no keys\n"
        "then. With --pkcs11 the checkpoint key is in a token (needs python-pkcs11). It runs\n"
        "until Ctrl-C.",
        epilog="examples:\n  certledger signer --data town\n"
        "  CERTLEDGER_SIGNER=town/signer.sock certledger up --data town\n"
        "  certledger signer --pkcs11 /usr/lib/softhsm/libsofthsm2.so --token ledger \\\n"
        "      --key checkpoint --name example.org/ledger --pin-file /run/ledger/pin",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--socket", type=Path, metavar="F", help="default: DIR/signer.sock")
    parser.add_argument(
        "--state", type=Path, metavar="F", help="what was signed last; default: DIR/signer.state"
    )
    parser.add_argument("--pkcs11", type=Path, metavar="MODULE", help="the token's library")
    parser.add_argument("--token", metavar="LABEL", help="of the token")
    parser.add_argument("--key", metavar="LABEL", help="of the Ed25519 key pair in the token")
    parser.add_argument("--name", help="the ledger's origin, under which the token's key signs")
    parser.add_argument("--pin-file", type=Path, metavar="F", help="holds the user PIN, mode 0600")
    parser.set_defaults(run=run_signer)


def run_signer(args: argparse.Namespace, env: Environment) -> int:
    """certledger signer"""
    set_up("signer", os.environ.get(FORMAT_VARIABLE))
    keys = env.data / "keys"
    if args.pkcs11 is None:
        ring = KeyRing.of_files(keys / "checkpoint.key", keys / "cosigner.key")
    else:
        if not all((args.token, args.key, args.name, args.pin_file)):
            raise Malformed("usage", "--pkcs11 needs --token, --key, --name and --pin-file")
        pin = passphrase_in(args.pin_file)(args.pin_file).decode("utf-8", "replace")
        signers: list[Signer | Cosigner] = [
            TokenSigner(args.pkcs11, args.token, args.key, pin, args.name)
        ]
        if (keys / "cosigner.key").exists():
            signers.append(load_signer(keys / "cosigner.key"))
        ring = KeyRing(signers)
    guard = Guard(ring, args.state or env.data / "signer.state")
    serve(guard, args.socket or env.data / "signer.sock", stop_on_signals())
    return 0
