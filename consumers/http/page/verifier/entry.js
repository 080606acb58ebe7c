// Log entries: ledger/entry.py.
import { fromHex } from "./bytes.js";
import { format, has, hasMembers, isCount, isObject, under } from "./canonical.js";
import { malformed } from "./errors.js";
import { parseCosignerKey, parseVkey } from "./note.js";
import { ENTRY_FORM, ENTRY_MEMBERS, MAX_ENTRY, MAX_EVENTS, MAX_K } from "./tables.js";
import { repr } from "./text.js";
import { parseMoment } from "./times.js";

const HASH = /^[0-9a-f]{64}$/;
const CODE = /^[a-z][a-z-]{0,62}[a-z]$/;
const TOPIC_ID = /^[A-Za-z0-9_-]{22}$/;

const bad = (message) => malformed("malformed-entry", message);

/** The members of an entry of `size` bytes, every one checked for its form. */
export function parseEntry(value, size) {
  under("malformed-entry", () => {
    if (size > MAX_ENTRY) {
      throw malformed("too-large", `${size} bytes, at most ${MAX_ENTRY} are allowed`);
    }
    check(value);
  });
  return value;
}

/** {value, data} of the entry of a kind with these members. */
export function makeEntry(kind, time, members) {
  const value = { format: ENTRY_FORM, kind, time, ...members };
  const data = format(value);
  if (data.length > MAX_ENTRY) {
    throw malformed("too-large", `an entry of ${data.length} bytes, at most ${MAX_ENTRY}`);
  }
  return { value, data };
}

/** {k, root} of the certificates' map in a status entry, null without maps. */
export function certificatesMap(status) {
  if (!has(status, "certificates_map")) return null;
  const { k, root } = status.certificates_map;
  return { k, root: fromHex(root) };
}

function check(value) {
  if (!isObject(value) || value.format !== ENTRY_FORM) {
    throw bad(`an entry says format ${repr(ENTRY_FORM)}`);
  }
  const kind = typeof value.kind === "string" && has(ENTRY_MEMBERS, value.kind) && value.kind;
  const members = [...(ENTRY_MEMBERS[kind] ?? []), "format", "kind", "time"];
  if (kind === "status" && has(value, "holders_map")) {
    members.push("certificates_map", "holders_map");
  }
  if (kind === "genesis" && has(value, "cosigner_vkey")) members.push("cosigner_vkey");
  if (!kind || !hasMembers(value, members)) {
    throw bad("not the members of an entry of this kind");
  }
  for (const [name, member] of Object.entries(value)) {
    if (!has(CHECKS, name)) {
      if (typeof member !== "string") throw bad(`${name} is a string`);
    } else if (!CHECKS[name](member)) {
      throw bad(`${name} is not of its form`);
    }
  }
  parseMoment(value.time);
  if (!value.time.endsWith("Z")) throw bad("the ledger time is in UTC, ending in Z");
  if (kind === "genesis") {
    parseVkey(value.checkpoint_vkey);
    parseVkey(value.operator_vkey);
    if (has(value, "cosigner_vkey")) parseCosignerKey(value.cosigner_vkey);
  }
}

const isHash = (value) => typeof value === "string" && HASH.test(value);

const isMap = (value) =>
  isObject(value) && hasMembers(value, ["k", "root"]) && isCount(value.k) && value.k <= MAX_K &&
  isHash(value.root);

const isSource = (value) =>
  isObject(value) && hasMembers(value, ["topic_id", "partition", "offset"]) &&
  typeof value.topic_id === "string" && TOPIC_ID.test(value.topic_id) &&
  isCount(value.partition) && isCount(value.offset);

/** Whether the runs cover positions 0 to some count - 1, each once, in their only spelling. */
function isOutcome(value) {
  if (!isObject(value)) return false;
  const spans = [];
  for (const [code, runs] of Object.entries(value)) {
    if (!CODE.test(code) || !Array.isArray(runs) || runs.length % 2 || !runs.length) return false;
    if (!runs.every(isCount)) return false;
    for (let i = 0; i < runs.length; i += 2) {
      if (i && (runs[i - 2] > runs[i] || (runs[i - 2] === runs[i] && runs[i - 1] > runs[i + 1]))) {
        return false;
      }
      spans.push([runs[i], runs[i + 1], code]);
    }
  }
  spans.sort((a, b) => a[0] - b[0] || a[1] - b[1] || (a[2] < b[2] ? -1 : 1));
  let covered = 0;
  let last = "";
  for (const [start, length, code] of spans) {
    if (start !== covered || length < 1 || code === last) return false;
    covered += length;
    last = code;
  }
  return covered <= MAX_EVENTS;
}

const CHECKS = {
  outcome: isOutcome,
  source: isSource,
  certificates: isHash,
  holders: isHash,
  registry_root: isHash,
  reflects: isCount,
  conflicts_with: isCount,
  certificates_map: isMap,
  holders_map: isMap,
};

/** The code of the event at `position`, "None" when the outcome does not cover it. */
export function codeAt(outcome, position) {
  for (const [code, runs] of Object.entries(outcome)) {
    for (let i = 0; i < runs.length; i += 2) {
      if (runs[i] <= position && position < runs[i] + runs[i + 1]) return code;
    }
  }
  return "None";
}
