// Registry records as evidence shows them: ledger/records.py, and of ledger/registry.py what
// evidence is judged by.
import { base64, utf8 } from "./bytes.js";
import { has, hasMembers, isCount, isObject, print } from "./canonical.js";
import { malformed } from "./errors.js";
import { MAX_RECORD, NOTE_FORM, OPTIONAL, RECORD_FORM, SCOPES } from "./tables.js";
import { repr, shown } from "./text.js";

const bad = (message) => malformed("malformed-evidence", message);

/** A registry record of `size` bytes of one of the kinds that evidence shows. */
export function parseRecord(record, size) {
  if (size > MAX_RECORD) {
    throw malformed("too-large", `${size} bytes, at most ${MAX_RECORD} are allowed`);
  }
  if (!isObject(record) || record.form !== RECORD_FORM) {
    throw bad(`a registry record says form ${repr(RECORD_FORM)}`);
  }
  const { name, value } = record;
  if (typeof name !== "string" || !isObject(value)) {
    throw bad("a registry record has a name and a value");
  }
  const kind = name.split("/")[0];
  if (!has(RECORDS, kind)) throw bad(`evidence shows no record ${shown(name, 100)}`);
  for (const [member, isGood] of Object.entries(RECORDS[kind])) {
    const isLeftOut = !has(value, member) && OPTIONAL.includes(member);
    if (!isLeftOut && !(has(value, member) && isGood(value[member]))) {
      throw bad(`${member} of ${shown(name, 100)} is not of its form`);
    }
  }
  return record;
}

const isText = (value) => typeof value === "string";
const isCountOrNull = (value) => value === null || isCount(value);
const isNames = (value) => isObject(value) && Object.values(value).every(isText);

const isGrant = (grant) =>
  isObject(grant) && hasMembers(grant, ["department", "acts", "scope", "from", "until"]) &&
  isText(grant.department) && Array.isArray(grant.acts) && grant.acts.every(isText) &&
  SCOPES.includes(grant.scope) && isCount(grant.from) && isCountOrNull(grant.until);

const isRecovery = (told) =>
  isObject(told) && hasMembers(told, ["vkey", "announced", "from"]) && isText(told.vkey) &&
  isCount(told.announced) && isText(told.from);

const isFormerLanes = (former) =>
  isObject(former) && hasMembers(former, ["lanes", "until"]) && isCount(former.lanes) &&
  former.lanes > 0 && isCount(former.until);

const isVersion = (item) =>
  isObject(item) && hasMembers(item, ["version", "check", "from"]) && isCount(item.version) &&
  isText(item.check) && isCount(item.from);

const isCatalogueVersion = (item) =>
  isObject(item) && hasMembers(item, ["version", "root", "size", "from"]) &&
  isCount(item.version) && isText(item.root) && isCount(item.size) && isCount(item.from);

/** The kinds of records that evidence shows, with the members that it uses. */
export const RECORDS = {
  key: {
    vkey: isText,
    department: isText,
    role: isText,
    from: isCount,
    revoked: isCountOrNull,
    doubted_from: isCount,
    recovered: isCount,
  },
  type: { names: isNames, grants: (value) => Array.isArray(value) && value.every(isGrant) },
  department: {
    names: isNames,
    contact: isText,
    time_zone: isText,
    silence_limit_seconds: isCountOrNull,
    lanes: (value) => isCount(value) && value > 0,
    recovery: (value) => isObject(value) && Object.values(value).every(isRecovery),
    former_lanes: (value) => Array.isArray(value) && value.every(isFormerLanes),
  },
  lane: { signed_at: isText },
  ledger: { origin: isText }, // a neighbour of where a department would stand
  catalogue: { versions: (value) => Array.isArray(value) && value.every(isCatalogueVersion) },
  pseudonyms: { versions: (value) => Array.isArray(value) && value.every(isVersion) },
};

/** The widest scope that a type's record grants for an act at a log index. */
export function granted(type, department, act, index) {
  const scopes = type.grants
    .filter((grant) => grant.department === department && grant.acts.includes(act))
    .filter(({ from, until }) => from <= index && (until === null || index < until))
    .map(({ scope }) => scope);
  return scopes.includes("any") ? "any" : scopes.length ? "own" : null;
}

/** How many lanes a department's record says that it had at a log index. */
export const lanesAt = ({ lanes, former_lanes: former = [] }, index) =>
  former.find(({ until }) => index < until)?.lanes ?? lanes;

/** Whether a key's record makes it valid at a log index. */
export const keyActive = ({ from, revoked }, index) =>
  from <= index && (revoked === null || index < revoked);

/** The name of a department's key in a role. */
export const keyName = (origin, department, role) =>
  `${origin}/department/${department}/${role === "registry" ? "registry" : "bundle"}`;

/** The text (bytes) of the note that registers a new key. */
export const registrationText = (origin, key, role, department) =>
  noteText(origin, `key/${key.id}`, new Uint8Array(32), {
    vkey: String(key), role, department, revoked: false,
  });

/** The text (bytes) of the note that announces a key's recovery. */
export const recoveryText = (origin, key, role, department, replaces, delaySeconds) =>
  noteText(origin, `department/${department}`, replaces, {
    recover: { vkey: String(key), role, delay_seconds: delaySeconds },
  });

/** The text (bytes) to sign for a change of record `name`, which now has hash `replaces`. */
export const noteText = (origin, name, replaces, change) =>
  utf8(`${origin}/registry/${name}\n${NOTE_FORM}\n${base64(replaces)}\n${print(change)}\n`);

/** What the registry's tree ascends by: keys and lanes stand after the record of their department. */
export function treePlace({ name, value }) {
  const [kind, ...rest] = name.split("/");
  let place = name;
  if (kind === "key") place = `department/${value.department}/${name}`;
  if (kind === "lane") place = `department/${rest[0]}/lane/${rest.slice(1).join("/")}`;
  return place.replace(/\//g, "\0");
}
