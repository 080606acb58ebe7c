"""Changing the registry from the operator's machine: build a note, have it signed, apply it."""

from __future__ import annotations

import json
import secrets
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.embedded.files import write_private
from deploy.witnesses import write_trust
from ledger import catalogue, keys, registry
from ledger.errors import Malformed, Refused
from ledger.event import FIELDS
from ledger.identity import pseudonym_check
from ledger.kafka_address import SCRAM, client_settings, credentials_file, format_credentials
from ledger.loss import Loss, loss_members
from ledger.note import Signer, sign
from ledger.postgres.connection import connect, transaction
from ledger.postgres.rows import read_origin, read_registry, read_time
from ledger.postgres.sequencing import read_published
from ledger.postgres.statements import sql
from ledger.postgres.store import Store
from ledger.registry import BUNDLE_ROLE, PSEUDONYMS, REGISTRY_ROLE, Registry
from producers.config import (
    change_settings,
    create_publisher_folder,
    create_secret,
    department_folder,
    kafka_credentials_path,
    load_secret,
    pseudonym_path,
)
from streams.kafka_users import DEFAULT_BYTES_PER_SECOND, department_user, set_department_user


class Registration:
    """The registry of one ledger, with the operator's key at hand in `data`/keys."""

    def __init__(self, postgres: str, data: Path, kafka: str = "") -> None:
        """`kafka` is the operator's address; without credentials in it departments get none."""
        self._kafka = kafka
        self._connection = connect(postgres, "registry", writes=True)
        self._store = Store(self._connection)
        self._data = data

    def close(self) -> None:
        """Give up the connection."""
        self._connection.close()

    def read(self) -> Registry:
        """The registry as it is now."""
        with transaction(self._connection) as cursor:
            return read_registry(cursor, read_origin(cursor))

    def published_size(self) -> int:
        """The size of the largest published checkpoint, 0 before the first."""
        with transaction(self._connection) as cursor:
            published = read_published(cursor)
        return 0 if published is None else published[0]

    def write_trust(self) -> None:
        """The data folder's trust file as the registry now is."""
        write_trust(self._connection, self._data)

    def add_department(
        self,
        department: str,
        names: Mapping[str, str],
        *,
        authority_code: str = "",
        time_zone: str = "Asia/Shanghai",
        contact: str = "",
        silence_limit_seconds: int | None = None,
        lanes: int = 1,
    ) -> int:
        """Register a department with a registry key and a bundle key of its own, made here.

        The log index of its last record. Resumes where an interrupted call stopped.
        """
        current = self.read()
        change = {
            "names": dict(names),
            "authority_code": authority_code,
            "time_zone": time_zone,
            "contact": contact,
            "silence_limit_seconds": silence_limit_seconds,
            "lanes": lanes,
        }
        value = current.value(f"department/{department}")
        if value is not None and current.keys(department, BUNDLE_ROLE):
            raise Refused("registry-refused", f"the department {department} is registered already")
        if value is None:
            self._change(current, f"department/{department}", change, [self._operator()])
        version = max(current.pseudonym_versions or {1})
        if current.pseudonym_versions is None:
            self.add_pseudonym_version(version)
        self.check_pseudonym_secret(version)
        folder = create_publisher_folder(
            self._data,
            origin=current.origin,
            department=department,
            checkpoint_keys=current.checkpoint_keys,
            time_zone=time_zone,
            lanes=lanes,
            pseudonym_version=version,
            silence_limit_seconds=silence_limit_seconds,
        ).folder
        if not kafka_credentials_path(folder).exists():
            self.renew_credentials(department, DEFAULT_BYTES_PER_SECOND)
        own = keys.load_key(folder / "registry.key")
        if not self.read().keys(department, REGISTRY_ROLE):
            self._add_key(own, department, REGISTRY_ROLE, [self._operator(), own])
        bundle = keys.load_key(folder / "bundle.key")
        return self._add_key(bundle, department, BUNDLE_ROLE, [own, bundle])

    def renew_credentials(
        self, department: str, bytes_per_second: int | None = None
    ) -> Path | None:
        """New Kafka credentials for a department, in its folder; the file, None where the operator
        needs none either. Publishers that run go on for up to an hour, then need a new start.
        """
        if credentials_file(self._kafka) is None:
            return None
        path = kafka_credentials_path(department_folder(self._data, department))
        password = secrets.token_urlsafe(24)
        set_department_user(self._kafka, department, password, bytes_per_second)
        # A crash here leaves the file with an old password or none: the same again mends it.
        user = department_user(department)
        write_private(path, format_credentials(SCRAM, user, password, self._ca()))
        return path

    def _ca(self) -> str | None:
        found: str | None = client_settings(self._kafka).get("ssl_cafile")
        return found

    def set_silence_limit(self, department: str, seconds: int | None) -> int | None:
        """Declare another silence limit for a department, None for none; the log index, None when
        it says this already.
        """
        index = self._set_member(department, "silence_limit_seconds", seconds)
        # A crash here: the publisher's heartbeats keep to the old limit; the same again mends it.
        change_settings(self._data, department, silence_limit_seconds=seconds)
        return index

    def set_lanes(self, department: str, lanes: int) -> int | None:
        """Give a department another number of lanes, all begun anew; the log index, None where it
        has so many. Its publishers stop, and go on with what they have spooled when they start.
        """
        index = self._set_member(department, "lanes", lanes, by_operator=True)
        # A crash here: publishers refuse to start with the old number; the same again mends it.
        change_settings(self._data, department, lanes=lanes)
        return index

    def _set_member(
        self, department: str, name: str, wanted: int | None, by_operator: bool = False
    ) -> int | None:
        """Change one member of a department's record, signed by its registry key, `by_operator` by
        the operator too; the log index, None where it says this already.
        """
        current = self.read()
        value = current.value(f"department/{department}")
        if value is None:
            raise Refused("unknown-department", f"no department {department[:63]!r}")
        if value[name] == wanted:
            return None
        owner = keys.load_key(department_folder(self._data, department) / "registry.key")
        change = {each: value[each] for each in registry.DEPARTMENT_MEMBERS} | {name: wanted}
        signers = [owner, self._operator()] if by_operator else [owner]
        return self._change(current, f"department/{department}", change, signers)

    def add_pseudonym_version(self, version: int | None = None) -> tuple[int, int]:
        """Announce one more version of the pseudonym secret, by default the next one: (version,
        log index). The secret in its file is taken, or made when there is none.
        """
        current = self.read()
        if version is None:
            version = max(current.pseudonym_versions or {0}) + 1
        path = pseudonym_path(self._data, version)
        create_secret(path)
        change = {"version": version, "check": pseudonym_check(load_secret(path))}
        return version, self._change(current, PSEUDONYMS, change, [self._operator()])

    def check_pseudonym_secret(self, version: int) -> None:
        """None when the file of a version holds the secret that the registry names; Refused."""
        value = self.read().value(PSEUDONYMS) or {"versions": []}
        checks = {item["version"]: item["check"] for item in value["versions"]}
        secret = load_secret(pseudonym_path(self._data, version))
        if checks.get(version) != pseudonym_check(secret):
            raise Refused(
                "registry-refused",
                f"{pseudonym_path(self._data, version)} is not version {version} of the pseudonym "
                "secret that the registry names: get that file from the operator",
            )

    def add_key(self, department: str, role: str, key: Signer) -> int:
        """Register one more key of a department, cosigned by the one in its folder."""
        folder = department_folder(self._data, department)
        signers: list[Signer] = [keys.load_key(folder / "registry.key")]
        if role == BUNDLE_ROLE:
            signers.append(keys.load_key(folder / "bundle.key"))
        return self._add_key(key, department, role, [*signers, key])

    def rotate_key(self, department: str, role: str) -> tuple[int, str, str]:
        """A new key in place of the one in the department's folder: (log index, new id, old id).

        The new key is registered before the old is revoked: nothing is ever without a key.
        """
        folder = department_folder(self._data, department)
        path = folder / f"{role}.key"
        draft = folder / f"{role}.key.new"
        old = keys.load_key(path)
        name = registry.key_name(self.read().origin, department, role)
        new = keys.load_key(draft) if draft.exists() else keys.create_key(draft, name)
        if self.read().value(f"key/{new.key.key_id}") is None:
            self.add_key(department, role, new)
        signer = new if role == REGISTRY_ROLE else keys.load_key(folder / "registry.key")
        index = self._revoke(department, role, old.key.key_id, str(old.key), signer)
        draft.rename(path)
        return index, new.key.key_id, old.key.key_id

    def revoke_key(self, department: str, key_id: str, since: int | None = None) -> int:
        """Revoke a key from now on, or with effect from `since`, an earlier log index."""
        value = self.read().value(f"key/{key_id}")
        if value is None or value["department"] != department:
            raise Refused("registry-refused", f"{department} has no key {key_id[:64]}")
        signer = keys.load_key(department_folder(self._data, department) / "registry.key")
        return self._revoke(department, value["role"], key_id, value["vkey"], signer, since)

    def recover_key(
        self, department: str, role: str, delay_seconds: int
    ) -> tuple[str, int, str | None]:
        """A key for a department that has none of a role at hand: (its id, log index, from when).

        The first call makes the key beside the lost one and announces it; the moment is that from
        which on the same call registers it, and then it is None and the key in its place. Refused
        `recovery-not-due` before.
        """
        folder = department_folder(self._data, department)
        draft = folder / f"{role}.key.recovered"
        current = self.read()
        name = registry.key_name(current.origin, department, role)
        new = keys.load_key(draft) if draft.exists() else keys.create_key(draft, name)
        value = current.value(f"department/{department}") or {}
        told = value.get("recovery", {}).get(role)
        known = current.value(f"key/{new.key.key_id}")
        if known is None and told is None:
            said = {"role": role, "vkey": str(new.key), "delay_seconds": delay_seconds}
            signers = [*self._rescuers(current, department, role), new]
            index = self._change(current, f"department/{department}", {"recover": said}, signers)
            told = (self.read().value(f"department/{department}") or {})["recovery"][role]
            return new.key.key_id, index, str(told["from"])
        # A crash after this leaves the key registered beside its place: the same again moves it.
        if known is None:
            self._add_key(new, department, role, [*self._rescuers(current, department, role), new])
            known = self.read().value(f"key/{new.key.key_id}") or {}
        path = folder / f"{role}.key"
        if path.exists():
            path.replace(folder / f"{role}.key.lost")
        draft.rename(path)
        return new.key.key_id, int(known["from"]), None

    def object_to_recovery(self, department: str, role: str) -> int:
        """Have an announced recovery be nothing, by the department's registry key where it is here,
        else by the operator's; the log index.
        """
        current = self.read()
        signers = self._owner(current, department) or [self._operator()]
        return self._change(current, f"department/{department}", {"object": role}, signers)

    def _rescuers(self, current: Registry, department: str, role: str) -> list[Signer]:
        """Who signs a recovery: the department that of its bundle key, else the operator."""
        owner = self._owner(current, department) if role == BUNDLE_ROLE else []
        return owner or [self._operator()]

    def _owner(self, current: Registry, department: str) -> list[Signer]:
        """The department's registry key, where a valid one is here."""
        path = department_folder(self._data, department) / "registry.key"
        if not path.exists():
            return []
        found = keys.load_key(path)
        value = current.value(f"key/{found.key.key_id}")
        return [found] if value is not None and value["revoked"] is None else []

    def index_at(self, moment: int) -> int:
        """The log index of the first entry with a ledger time from `moment` on."""
        with transaction(self._connection) as cursor:
            cursor.execute(sql("read_allocation"))
            ((_, end, *_),) = cursor.fetchall()
            return bisect_left(range(end), moment, key=lambda index: read_time(cursor, index))

    def change_ledger_keys(self, old: Signer, new: Signer, cosigner_vkey: str) -> int:
        """Have other keys sign the checkpoints that hold this change; its log index."""
        change = {"checkpoint_vkey": str(new.key), "cosigner_vkey": cosigner_vkey}
        return self._change(self.read(), "ledger", change, [self._operator(), old, new])

    def add_type(
        self,
        code: str,
        names: Mapping[str, str],
        grants: Sequence[Mapping[str, Any]],
        standard_code: str = "",
    ) -> int | None:
        """Register or change a certificate type; None when it says this already."""
        current = self.read()
        change = {"names": dict(names), "code": standard_code, "grants": [dict(g) for g in grants]}
        before = current.value(f"type/{code}")
        if before is not None:
            same = [
                {k: g[k] for k in ("department", "acts", "scope")}
                for g in before["grants"]
                if g["until"] is None
            ]
            if (before["names"], before["code"], same) == (
                change["names"],
                standard_code,
                change["grants"],
            ):
                return None
        return self._change(current, f"type/{code}", change, [self._operator()])

    def add_service(
        self, code: str, names: Mapping[str, str], offices: Sequence[str]
    ) -> int | None:
        """Register a service or change its offices; None when it says this already."""
        current = self.read()
        change = {"names": dict(names), "offices": sorted(set(offices))}
        before = current.value(f"service/{code}")
        if before is not None:
            now = [o["department"] for o in before["offices"] if o["until"] is None]
            if (before["names"], sorted(now)) == (change["names"], change["offices"]):
                return None
        return self._change(current, f"service/{code}", change, [self._operator()])

    def declare_loss(self, loss: Loss) -> int:
        """Declare something lost for good, with its reason; the log index. Refused `no-such-loss`
        where the ledger does not stand just before it.
        """
        current = self.read()
        name = f"loss/{len(current.losses) + 1}"
        return self._change(current, name, loss_members(loss), [self._operator()])

    def publish_catalogue(self, data: bytes) -> int | None:
        """Publish a catalogue's file: the root of its version becomes an entry, the file is kept;
        the log index, None when this version is published already.

        Malformed `malformed-catalogue` where the file is none or names departments and certificate
        types that the registry lacks; Refused where it does not follow the last version.
        """
        made = catalogue.parse_catalogue(data)
        current = self.read()
        known = (current.value(made.record_name) or {"versions": []})["versions"]
        if made.version <= len(known):
            if known[made.version - 1]["root"] != made.root.hex():
                raise Refused(
                    "registry-refused",
                    f"version {made.version} of {made.record_name} was published with another "
                    f"content: the next one is {len(known) + 1}",
                )
            self._store.keep_catalogue(made.record_name, made.version, data)
            return None
        if made.version != len(known) + 1 or (
            known and made.replaces != bytes.fromhex(known[-1]["root"])
        ):
            last = f'"replaces": "{known[-1]["root"]}"' if known else '"replaces": null'
            raise Refused(
                "registry-refused",
                f'the next version of {made.record_name} says "version": {len(known) + 1}, {last}',
            )
        problems = catalogue.find_unknown(made, data, set(current.records))
        if problems:
            raise Malformed("malformed-catalogue", "\n".join(map(str, problems)))
        owner = keys.load_key(department_folder(self._data, made.publisher) / "registry.key")
        change = {"version": made.version, "root": made.root.hex(), "size": len(made.leaves)}
        return self._change(current, made.record_name, change, [owner], data)

    def register(
        self, departments: Sequence[Mapping[str, Any]], types: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Register what is missing of these; a line for each addition.

        Departments: `id` and the arguments of `add_department`; types: `code`, `names`, `grants`,
        `standard_code`.
        """
        done = []
        current = self.read()
        for item in departments:
            if not current.keys(item["id"], BUNDLE_ROLE):
                rest = {name: value for name, value in item.items() if name != "id"}
                self.add_department(item["id"], **rest)
                done.append(f"department {item['id']}")
        for item in types:
            if current.value(f"type/{item['code']}") is None:
                self.add_type(
                    item["code"], item["names"], item["grants"], item.get("standard_code", "")
                )
                done.append(f"type {item['code']}")
        return done

    def _add_key(self, key: Signer, department: str, role: str, signers: Sequence[Signer]) -> int:
        change = {
            "vkey": str(key.key),
            "role": role,
            "department": department,
            "revoked": False,
        }
        return self._change(self.read(), f"key/{key.key.key_id}", change, signers)

    def _revoke(
        self,
        department: str,
        role: str,
        key_id: str,
        vkey: str,
        signer: Signer,
        since: int | None = None,
    ) -> int:
        change = {
            "vkey": vkey,
            "role": role,
            "department": department,
            "revoked": True if since is None else since,
        }
        return self._change(self.read(), f"key/{key_id}", change, [signer])

    def _change(
        self,
        current: Registry,
        name: str,
        change: Mapping[str, Any],
        signers: Sequence[Signer],
        catalogue: bytes | None = None,
    ) -> int:
        record = current.records.get(name)
        replaces = registry.NO_RECORD if record is None else registry.record_hash(record)
        text = registry.note_text(current.origin, name, replaces, change)
        index = self._store.change_registry(sign(text, signers), catalogue)
        if index is None:
            raise Refused("registry-refused", f"{name} says this already")
        return index

    def _operator(self) -> Signer:
        path = self._data / "keys" / "operator.key"
        if not path.exists():
            raise Refused("registry-signature", f"the operator's key {path} is not here")
        return keys.load_key(path)


def parse_names(items: Sequence[str]) -> dict[str, str]:
    """`zh=…` and `en=…` arguments to names by language."""
    names = {}
    for item in items:
        language, found, text = item.partition("=")
        if not found or not text:
            raise Malformed("usage", f"{item!r}: write names as zh=市场监督管理局 or en=Health")
        names[language] = text
    return names


def parse_grants(items: Sequence[str]) -> list[dict[str, Any]]:
    """`DEPARTMENT:ACT,ACT…[:any]`, `all` for all acts, or a JSON list to grants."""
    if len(items) == 1 and items[0].startswith("["):
        try:
            return list(json.loads(items[0]))
        except ValueError as err:
            raise Malformed("usage", f"grants are not JSON: {err}") from err
    grants = []
    for item in items:
        department, _, rest = item.partition(":")
        acts, _, scope = rest.partition(":")
        if not acts:
            raise Malformed("usage", f"{item!r}: write grants as DEPARTMENT:issued,renewed[:any]")
        named = sorted(FIELDS if acts == "all" else acts.split(","))
        for act in named:
            if act not in FIELDS:
                raise Malformed("usage", f"{act!r} is no event: all, or of {', '.join(FIELDS)}")
        grants.append({"department": department, "acts": named, "scope": scope or "own"})
    return grants
