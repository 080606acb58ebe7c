// Event lines: ledger/event.py. What each kind may say is the table FIELDS.
import { has, isObject } from "./canonical.js";
import { attempt, malformed } from "./errors.js";
import { certificateKey, checkDepartment, checkNumber, checkPseudonym, checkType, parseIdentifier } from "./identity.js";
import { ALWAYS, CORRECTIONS, EVENT_PREFIX, EVENT_SUFFIX, FIELDS, MAX_LINE, REVOCATION_KINDS } from "./tables.js";
import { byCodePoints, cut, repr, str, typeName } from "./text.js";
import { dayStart, parseMoment } from "./times.js";

const ENVELOPE = ["data", "id", "source", "specversion", "time", "type"];
const REQUIRED = ["certificate_type_code", "issuing_authority_code", "certificate_number"];
const ID = /^[0-9a-f]{32}$/;
const HASH = /^[0-9a-f]{64}$/;
const CODE = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;
const NAME = /^[a-z][a-z0-9_]{0,63}$/;
const SOURCE = /^[!-~]{1,255}$/;

const bad = (message) => malformed("malformed-event", message);

/** The event in a line of `size` bytes that says `value`. */
export function parseEvent(value, size) {
  if (size > MAX_LINE) throw malformed("line-too-large");
  if (!isObject(value)) throw bad("an event line is a JSON object");
  const names = Object.keys(value);
  const wrong = [
    ...names.filter((name) => !ENVELOPE.includes(name) && name !== "recordedtime"),
    ...ENVELOPE.filter((name) => !has(value, name)),
  ].sort(byCodePoints);
  if (wrong.length) throw bad(`members missing or not allowed: ${str(wrong.slice(0, 6))}`);
  const id = matching(value, "id", ID, "32 lower-case hex digits");
  matching(value, "source", SOURCE, "1 to 255 printable ASCII characters");
  if (value.specversion !== "1.0") throw bad("specversion is 1.0");
  const kind = kindOf(value.type);
  const data = value.data;
  if (!isObject(data)) throw bad("data is an object");
  checkData(kind, data);
  checkMoment(value, "time");
  if (has(value, "recordedtime")) checkMoment(value, "recordedtime");
  const number = data.certificate_number;
  const key = certificateKey(data.certificate_type_code, data.issuing_authority_code, number);
  return { id, kind, time: value.time, number, data, key };
}

function kindOf(text) {
  if (typeof text === "string" && text.startsWith(EVENT_PREFIX) && text.endsWith(EVENT_SUFFIX)) {
    const kind = text.slice(EVENT_PREFIX.length, -EVENT_SUFFIX.length);
    if (has(FIELDS, kind) && text === EVENT_PREFIX + kind + EVENT_SUFFIX) return kind;
  }
  const said = typeof text === "string" ? cut(text, 0, 80) : typeName(text);
  throw bad(`unknown event type ${repr(said)}`);
}

function checkData(kind, data) {
  const { more, needed } = FIELDS[kind];
  const names = Object.keys(data);
  const extra = names.filter((name) => !ALWAYS.includes(name) && !more.includes(name)).sort(byCodePoints);
  if (extra.length) throw bad(`${kind} does not take ${extra.slice(0, 6).join(", ")}`);
  const missing = [...REQUIRED, ...needed].filter((name) => !has(data, name)).sort(byCodePoints);
  if (missing.length) throw bad(`${kind} needs ${missing.join(", ")}`);
  const check = () => {
    checkType(textOf(data, "certificate_type_code"));
    checkDepartment(textOf(data, "issuing_authority_code"));
    checkNumber(textOf(data, "certificate_number"));
    for (const name of names) if (!REQUIRED.includes(name)) CHECKS[name](data, name);
  };
  attempt(check, (error) => {
    throw bad(error.message);
  });
  if (has(data, "commitments") && !has(data, "salt_key_version")) {
    throw bad("commitments need salt_key_version");
  }
  const first = data.valid_from;
  if (first === "open" || (kind === "suspended" && first === "unknown")) {
    throw bad("valid_from is a day here");
  }
  const dated = has(data, "valid_from") || has(data, "valid_until");
  if (kind === "corrected" && data.correction !== "restate" && dated) {
    throw bad(`a ${data.correction} correction states no dates`);
  }
}

function textOf(value, name) {
  const text = value[name];
  if (typeof text !== "string") throw bad(`${name} is a string`);
  return text;
}

function checkMoment(value, name) {
  attempt(() => parseMoment(textOf(value, name)), (error) => {
    throw bad(`${name}: ${error.message}`);
  });
}

function matching(value, name, pattern, form) {
  const text = textOf(value, name);
  if (!pattern.test(text)) throw bad(`${name} is ${form}`);
  return text;
}

function checkDay(data, name) {
  const text = textOf(data, name);
  if (text !== "unknown" && text !== "open") dayStart(text);
}

function checkClaims(data, name) {
  const members = data[name];
  if (!isObject(members) || !Object.keys(members).length) {
    throw bad(`${name} is an object with members, or left out`);
  }
  for (const [key, value] of Object.entries(members)) {
    if (typeof value !== "string" || !NAME.test(key)) {
      throw bad(`${name}.${key.slice(0, 64)} is a string`);
    }
  }
}

function checkCommitments(data, name) {
  checkClaims(data, name);
  for (const [key, value] of Object.entries(data[name])) {
    if (!HASH.test(value)) throw bad(`${name}.${key} is 64 hex digits`);
  }
}

function checkVersion(data, name) {
  const version = data[name];
  if (typeof version !== "number" || version < 1 || version > 999_999) {
    throw bad(`${name} is a number from 1`);
  }
}

const oneOf = (choices) => (data, name) => {
  if (!choices.includes(data[name])) throw bad(`${name} is one of ${choices.join(", ")}`);
};

const CHECKS = {
  valid_from: checkDay,
  valid_until: checkDay,
  reason_code: (data, name) => matching(data, name, CODE, "a-z, 0-9 and inner hyphens"),
  corrects: (data, name) => matching(data, name, ID, "an event id"),
  correction: oneOf(CORRECTIONS),
  revocation_kind: oneOf(REVOCATION_KINDS),
  transfer_to: (data, name) => checkDepartment(textOf(data, name)),
  holder_pseudonym: (data, name) => checkPseudonym(textOf(data, name)),
  certificate_identifier: (data, name) => parseIdentifier(textOf(data, name)),
  claims: checkClaims,
  commitments: checkCommitments,
  salt_key_version: checkVersion,
};
