// The evidence file, read strictly, with everything again that it leaves out: ledger/evidence.py and
// ledger/short_forms.py. Nothing in it is proven yet: checking.js does that.
//
// A leaf is {index, value, data, path}: JSON value and bytes of an entry or record.
import { base64, concat, decodeBase64, decodeUtf8, fromHex, hex, utf8 } from "./bytes.js";
import { parseHeader, headerText } from "./bundle.js";
import { format, has, isCount, isObject, parse, print, under } from "./canonical.js";
import { makeEntry } from "./entry.js";
import { attempt, malformed } from "./errors.js";
import { parseEvent } from "./event.js";
import { certificateKey, checkDepartment, checkNumber, checkType } from "./identity.js";
import { makeTransition, parseTransition } from "./lifecycle.js";
import { leafHash, splitPaths } from "./merkle.js";
import { Key, parseCheckpoint, parseNote } from "./note.js";
import { keyName, noteText, recoveryText, registrationText } from "./registry.js";
import {
  BUNDLE_FORM, EVIDENCE_FORM, MAX_EVENTS, MAX_EVIDENCE, MAX_K, MAX_PATH, MAX_SHOWN, RECORD_FORM,
} from "./tables.js";
import { repr, shown, str } from "./text.js";
import { formatInstant, parseMoment } from "./times.js";

const PAIR = 64;
const LATER = "revoked doubted recovered announced"; // how a key came, what became of it
const MEMBERS = "format certificate question keys history bundles registry bucket status checkpoint genesis log";

const bad = (message) => malformed("malformed-evidence", message);

/** The evidence in bytes, which must be what `certledger evidence` prints, a newline at its end
 * allowed. */
export function parseEvidence(bytes) {
  const data = bytes[bytes.length - 1] === 10 ? bytes.subarray(0, -1) : bytes;
  return under("malformed-evidence", () => {
    const value = parse(data, MAX_EVIDENCE);
    const evidence = read(value);
    if (print(again(value, evidence)) !== print(value)) {
      throw bad("not printed as an evidence file is");
    }
    return evidence;
  });
}

function read(value) {
  if (!isObject(value) || value.format !== EVIDENCE_FORM) {
    throw bad(`an evidence file says format ${repr(EVIDENCE_FORM)}`);
  }
  parseMembers(value, MEMBERS, "status_then since");
  const checkpoint = utf8(parseText(value.checkpoint));
  const { origin, size } = parseCheckpoint(checkpoint);
  const last = size <= Number.MAX_SAFE_INTEGER ? Number(size) - 1 : size - 1n;
  const bundles = new Map();
  for (const each of parseList(value.bundles)) {
    const bundle = parseBundle(each, origin);
    bundles.set(bundle.index, bundle);
  }
  const keys = parseList(value.keys).map((each) => parseKey(each, origin));
  const history = parseList(value.history).map((each) => parseStep(each, keys, bundles));
  const events = history.flatMap(({ line }, ordinal) => (line ? [{ ordinal, ...line }] : []));
  if (events.length > MAX_SHOWN) throw bad(`at most ${MAX_SHOWN} events are shown in full`);
  const logged = new Map([...bundles].map(([index, { data }]) => [index, data]));
  parseMembers(value.status, "registry_root time", "maps");
  const status = { index: last, ...expandStatus(value.status, last) };
  let statusThen = null;
  if (has(value, "status_then")) {
    parseMembers(value.status_then, "index registry_root time", "maps");
    const index = parseCount(value.status_then.index);
    statusThen = { index, ...expandStatus(value.status_then, index) };
  }
  const genesis = decode(value.genesis, 32);
  logged.set(last, status.data);
  if (statusThen) logged.set(statusThen.index, statusThen.data);
  for (const { since, entry } of keys) if (entry) logged.set(since, entry.data);
  for (const { announced } of keys) if (announced) logged.set(announced.index, announced.data);
  const leaves = new Map([...logged].map(([index, data]) => [index, leafHash(data)]));
  leaves.set(0, genesis);
  const paths = splitPaths(leaves, size, decodeHashes(value.log));
  for (const bundle of bundles.values()) linePaths(bundle, history, events);
  const registry = parseRegistry(value.registry, keys, origin);
  if (statusThen && statusThen.index === last) Object.assign(status, statusThen);
  const withPath = (leaf) => ({ ...leaf, path: paths.get(leaf.index) });
  const certificate = parseCertificate(value.certificate);
  return {
    origin,
    certificate,
    key: certificateKey(certificate.type, certificate.issuer, certificate.number),
    question: parseQuestion(value.question),
    history,
    events,
    genesis: { leafHash: genesis, path: paths.get(0) },
    entries: [...bundles.values()].sort((a, b) => a.index - b.index).map(withPath),
    bucket: parseBucket(value.bucket),
    registrySize: registry.size,
    records: registry.records,
    keys,
    registrations: keys
      .filter(({ entry }) => entry)
      .sort((a, b) => a.since - b.since)
      .map(({ since: index, time, signatures }) => withPath({ index, time, signatures })),
    announcements: keys
      .flatMap(({ announced }) => (announced ? [withPath(announced)] : []))
      .sort((a, b) => a.index - b.index),
    status: withPath(status),
    statusThen: statusThen && withPath(statusThen),
    checkpoint,
    since: has(value, "since") ? parseSince(value.since) : null,
  };
}

// --- printed again: what of a file does not follow from what was read must be as it was ---

function again(value, evidence) {
  const { question, history, origin } = evidence;
  const bundles = evidence.entries.map((entry) => shortenBundle(entry, origin));
  const keys = printKeys(evidence);
  const numbers = new Map(keys.map(({ id }, number) => [id, number]));
  const instants = { at: question.at, known_at: question.knownAt };
  return {
    ...value,
    question: {
      asked_at: formatInstant(question.askedAt),
      ...Object.fromEntries(
        Object.entries(instants)
          .filter(([, moment]) => moment !== null)
          .map(([name, moment]) => [name, formatInstant(moment)]),
      ),
      ...(question.version !== null && { version: question.version }),
    },
    history: value.history.map((step, n) => ({ ...step, key: numbers.get(history[n].transition.key) })),
    bundles,
    keys: keys.map(({ member }) => member),
    registry: {
      ...value.registry,
      records: evidence.records.filter(({ key }) => !key).map(({ short }) => short),
    },
    status: evidence.status.short,
  };
}

/** {id, member} of the keys that the history names, in the order of their first use, then of the
 * others that are shown, in the registry's order. */
function printKeys({ history, records, registrations, announcements, origin }) {
  const found = new Map();
  for (const { index, key } of records) if (key) found.set(key.id, { place: index, key });
  const ids = new Set([...history.map(({ transition }) => transition.key), ...found.keys()]);
  const told = new Map(registrations.map((each) => [each.index, each]));
  const before = new Map(announcements.map((each) => [each.index, each]));
  return [...ids].map((id) => {
    if (!found.has(id)) return { id, member: encode(fromHex(id)) };
    const { place, key } = found.get(id);
    const { publicKey, department, role, since, revoked, doubted, recovered } = key;
    const member = { public: encode(publicKey), department, role, place, from: since };
    if (revoked !== null) member.revoked = revoked;
    if (doubted !== null) member.doubted = [doubted[0], doubted[1], encode(fromHex(doubted[2]))];
    if (recovered !== null) member.recovered = recovered;
    const announced = before.get(recovered);
    if (announced) {
      const { time, replaces, delaySeconds, signatures } = announced;
      const note = parseNote(concat(key.text, utf8(`\n${signatures}`)));
      const short = shortenSignatures(note.signatures, origin, department);
      member.announced = [time, encode(replaces), delaySeconds, ...short];
    }
    const registration = told.get(since);
    if (registration) {
      const note = parseNote(concat(key.text, utf8(`\n${registration.signatures}`)));
      member.time = registration.time;
      member.signatures = shortenSignatures(note.signatures, origin, department);
    }
    return { id, member };
  });
}

function shortenBundle({ short, value }, origin) {
  const { signatures, text } = parseNote(utf8(value.note));
  const header = parseHeader(decodeUtf8(text));
  const { department, lane, epoch, sequence } = header;
  return {
    ...short,
    note: [
      `${department}/${lane}/${epoch}/${sequence}`,
      header.count,
      encode(header.root),
      encode(fromHex(header.producer)),
      encode(header.previous),
      header.signedAt,
      ...shortenSignatures(signatures, origin, department),
    ],
    source: short.source.slice(0, 3),
    deltas: short.deltas.slice(0, 2),
  };
}

// --- parts ---

/** Base64 with - and _, without padding (RFC 4648 section 5). */
const encode = (data) =>
  base64(data).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

function decode(text, size = null) {
  const refuse = () => bad("not base64 of section 5 of RFC 4648");
  if (typeof text !== "string") throw refuse();
  const padded = text.replace(/-/g, "+").replace(/_/g, "/") + "=".repeat((4 - (text.length % 4)) % 4);
  const data = attempt(() => decodeLoosely(padded), () => {
    throw refuse();
  });
  if (encode(data) !== text || (size !== null && data.length !== size)) {
    throw bad("not the bytes that are expected here, in base64");
  }
  return data;
}

function decodeLoosely(padded) {
  const last = /([A-Za-z0-9+/])(={1,2})$/.exec(padded);
  if (!last) return decodeBase64(padded);
  // The bits that padding leaves over are dropped here; printing again finds them.
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const kept = alphabet.indexOf(last[1]) & (last[2].length === 2 ? 48 : 60);
  return decodeBase64(padded.slice(0, last.index) + alphabet[kept] + last[2]);
}

function decodeHashes(text) {
  const joined = decode(text);
  if (joined.length % 32) throw bad("hashes are of 32 bytes");
  return Array.from({ length: joined.length / 32 }, (_, n) => joined.subarray(32 * n, 32 * n + 32));
}

const rolesOf = (origin, department) => new Map([
  ["bundle", keyName(origin, department, "bundle")],
  ["registry", keyName(origin, department, "registry")],
  ["operator", `${origin}/operator`],
]);

function shortenSignatures(signatures, origin, department) {
  const roles = new Map([...rolesOf(origin, department)].map(([role, name]) => [name, role]));
  return signatures.map(({ name, hash, signature }) =>
    `${roles.get(name) ?? `=${name}`} ${encode(concat(fromHex(hash), signature))}`);
}

/** The signature lines (text) of what `shortenSignatures` printed. */
function expandSignatures(value, origin, department) {
  const roles = rolesOf(origin, department);
  if (!Array.isArray(value) || value.some((text) => typeof text !== "string")) {
    throw bad("signatures are strings");
  }
  return value.map((text) => {
    const [who, ...rest] = text.split(" ");
    const name = who.startsWith("=") ? who.slice(1) : roles.get(who);
    if (name === undefined) throw bad(`no signature is ${shown(who, 40)}'s`);
    return `\u2014 ${name} ${base64(decode(rest.join(" ")))}\n`;
  }).join("");
}

function parseBundle(short, origin) {
  parseMembers(short, "index note outcome source time deltas path");
  const { note: said, source, deltas, outcome } = short;
  for (const [found, size] of [[said, 6], [source, 3], [deltas, 2]]) {
    if (!Array.isArray(found) || found.length < size) {
      throw bad("a bundle's note, source or deltas");
    }
  }
  const [name, count, root, producer, previous, signedAt] = said;
  const rootText = base64(decode(root, 32));
  const header = parseHeader([
    `${origin}/bundle/${str(name)}`,
    BUNDLE_FORM,
    str(count),
    rootText,
    `${hex(decode(producer, 16))} ${base64(decode(previous, 32))}`,
    str(signedAt),
    "",
  ].join("\n"));
  const signatures = expandSignatures(said.slice(6), origin, header.department);
  if (!isObject(outcome) || !Object.values(outcome).every(Array.isArray)) {
    throw bad("an outcome is an object of lists");
  }
  const [topic, partition, offset] = source;
  const entry = makeEntry("bundle", short.time, {
    note: `${headerText(header)}\n${signatures}`,
    outcome,
    source: { topic_id: topic, partition, offset },
    certificates: hex(decode(deltas[0], 32)),
    holders: hex(decode(deltas[1], 32)),
  });
  const index = parseCount(short.index);
  return { index, ...entry, header, short, joined: decodeHashes(short.path) };
}

/** Gives the lines of a bundle that are shown their paths. */
function linePaths(bundle, history, events) {
  const own = events.filter(({ ordinal }) => history[ordinal].index === bundle.index);
  const hashes = new Map(own.map(({ ordinal }) => [history[ordinal].position, history[ordinal].lineHash]));
  if (hashes.size < own.length) throw bad("a line is shown for two elements of the history");
  if (!own.length && !bundle.joined.length) return;
  const paths = splitPaths(hashes, bundle.header.count, bundle.joined);
  for (const event of own) event.path = paths.get(history[event.ordinal].position);
}

function expandStatus(short, index) {
  const members = {};
  if (has(short, "maps")) {
    const { maps } = short;
    if (!Array.isArray(maps) || maps.length !== 4) throw bad("the maps are k, root, k, root");
    members.certificates_map = { k: maps[0], root: hex(decode(maps[1], 32)) };
    members.holders_map = { k: maps[2], root: hex(decode(maps[3], 32)) };
  }
  const root = hex(decode(short.registry_root, 32));
  const entry = makeEntry("status", short.time, { reflects: index, registry_root: root, ...members });
  const { registry_root: shortRoot, time, maps } = short;
  return { ...entry, short: { registry_root: shortRoot, time, ...(maps && { maps }) } };
}

/** A key whose record follows from what is shown of it. */
class RegisteredKey {
  constructor(publicKey, department, role, since, revoked, doubted, recovered, origin) {
    Object.assign(this, { publicKey, department, role, since, revoked, doubted, recovered });
    const key = this.key = new Key(keyName(origin, department, role), 1, publicKey);
    this.id = key.id;
    this.text = registrationText(origin, key, role, department);
    const name = `key/${key.id}`;
    const value = {
      vkey: String(key), role, department, from: since, revoked: null,
      ...(recovered !== null && { recovered }),
    };
    const note = hex(leafHash(this.text));
    this.value = { form: RECORD_FORM, name, since, note, value };
    if (doubted !== null) {
      const [begin, changed, last] = doubted;
      const doubtedValue = { ...value, revoked, doubted_from: begin };
      this.value = { form: RECORD_FORM, name, since: changed, note: last, value: doubtedValue };
    } else if (revoked !== null) {
      const change = { vkey: String(key), role, department, revoked: true };
      const text = noteText(origin, name, leafHash(format(this.value)), change);
      this.value = {
        form: RECORD_FORM, name, since: revoked, note: hex(leafHash(text)), value: { ...value, revoked },
      };
    }
    this.data = format(this.value);
  }
}

/** The key in a registry record, when it is a key's and all the rest follows; null otherwise. */
function registeredKey({ value: record, data }, origin) {
  try {
    const { vkey, department, role, from, revoked } = record.value;
    const publicKey = decodeBase64(vkey.split("+").slice(2).join("+")).subarray(1);
    const { doubted_from: begin } = record.value;
    const doubted = begin === undefined ? null : [begin, record.since, record.note];
    const key = new RegisteredKey(
      publicKey, department, role, from, revoked, doubted, record.value.recovered ?? null, origin,
    );
    return decodeUtf8(key.data) === decodeUtf8(data) ? key : null;
  } catch {
    return null;
  }
}

/** The announcement of a key's recovery, with its entry. */
function parseAnnounced(value, { key, role, department, recovered }, origin) {
  const found = parseList(value);
  if (found.length < 4 || recovered === null) {
    throw bad("announced is of a recovered key, and signed");
  }
  const time = parseText(found[0]);
  const delaySeconds = parseCount(found[2]);
  const replaces = decode(found[1], 32);
  const signatures = expandSignatures(found.slice(3), origin, department);
  const text = recoveryText(origin, key, role, department, replaces, delaySeconds);
  const entry = makeEntry("registry", time, { note: `${decodeUtf8(text)}\n${signatures}` });
  return { index: recovered, time, replaces, delaySeconds, signatures, data: entry.data };
}

function parseDoubted(value) {
  const found = parseList(value);
  if (found.length !== 3) throw bad("doubted is two log indexes and a hash");
  const note = hex(decode(found[2], 32));
  return [parseCount(found[0]), parseCount(found[1]), note];
}

function parseKey(short, origin) {
  if (typeof short === "string") return { id: hex(decode(short, 32)), record: null, entry: null };
  parseMembers(short, "public department role place from", `${LATER} time signatures`);
  const record = new RegisteredKey(
    decode(short.public, 32),
    parseText(short.department),
    parseText(short.role),
    parseCount(short.from),
    has(short, "revoked") ? parseCount(short.revoked) : null,
    has(short, "doubted") ? parseDoubted(short.doubted) : null,
    has(short, "recovered") ? parseCount(short.recovered) : null,
    origin,
  );
  const told = {};
  if (has(short, "time") || has(short, "signatures")) {
    parseMembers(short, "public department role place from time signatures", LATER);
    told.time = parseText(short.time);
    told.signatures = expandSignatures(short.signatures, origin, record.department);
    const note = `${decodeUtf8(record.text)}\n${told.signatures}`;
    told.entry = makeEntry("registry", told.time, { note });
  }
  if (has(short, "announced")) told.announced = parseAnnounced(short.announced, record, origin);
  const place = parseCount(short.place);
  return { id: record.id, place, record, since: record.since, entry: null, ...told };
}

function parseStep(short, keys, bundles) {
  if (!isObject(short) || !["entry", "position", "key"].every((name) => has(short, name))) {
    throw bad("an element of a history has a place and a key");
  }
  const index = parseCount(short.entry);
  const position = parseCount(short.position);
  const number = parseCount(short.key);
  if (position >= MAX_EVENTS) throw bad(`a bundle has at most ${MAX_EVENTS} events`);
  if (number >= keys.length) throw bad("an element of a history names no key of the list");
  const { id } = keys[number];
  if (!has(short, "line")) {
    const { entry, position: _, hash, ...members } = short;
    const transition = parseTransition({ ...members, key: id });
    return { index, position, lineHash: decode(hash, 32), transition };
  }
  parseMembers(short, "entry position key version line");
  const bundle = bundles.get(index);
  if (!bundle) throw bad(`no bundle is shown at entry ${index}`);
  const line = format(short.line);
  const event = parseEvent(short.line, line.length);
  const version = parseCount(short.version);
  const transition = makeTransition(event, bundle.header.department, id, version);
  return { index, position, lineHash: leafHash(line), transition, line: { line, value: short.line } };
}

function parseRegistry(value, keys, origin) {
  parseMembers(value, "size records path");
  const size = parseCount(value.size);
  const joined = decodeHashes(value.path);
  const leaves = new Map();
  for (const { place, record } of keys) {
    if (record) leaves.set(place, { value: record.value, data: record.data, key: record });
  }
  for (const short of parseList(value.records)) {
    parseMembers(short, "place name since value", "note");
    const { place, note, ...record } = short;
    const at = parseCount(place);
    if (note !== undefined) record.note = hex(decode(note, 32));
    const whole = { form: RECORD_FORM, ...record };
    leaves.set(at, { value: whole, data: format(whole), short });
  }
  if (!leaves.size && !joined.length) return { size, records: [] };
  const hashes = new Map([...leaves].map(([place, { data }]) => [place, leafHash(data)]));
  const paths = splitPaths(hashes, size, joined);
  const records = [...paths].map(([index, path]) => {
    const leaf = leaves.get(index);
    return { index, ...leaf, key: leaf.key ?? registeredKey(leaf, origin), path };
  });
  return { size, records };
}

function parseCertificate(value) {
  parseMembers(value, "type issuer number");
  checkType(parseText(value.type));
  checkDepartment(parseText(value.issuer));
  checkNumber(parseText(value.number));
  return { type: value.type, issuer: value.issuer, number: value.number };
}

function parseQuestion(value) {
  parseMembers(value, "asked_at", "at known_at version");
  const moment = (name) => (has(value, name) ? parseMoment(parseText(value[name])) : null);
  return {
    askedAt: moment("asked_at"),
    at: moment("at"),
    knownAt: moment("known_at"),
    version: has(value, "version") ? parseCount(value.version) : null,
  };
}

function parseSince(value) {
  parseMembers(value, "size path");
  const path = decodeHashes(value.path);
  if (path.length > 2 * MAX_PATH) throw bad(`a proof has at most ${2 * MAX_PATH} hashes`);
  return { size: parseCount(value.size), path };
}

function parseBucket(value) {
  parseMembers(value, "pairs path", "count first inner");
  const pairs = decode(value.pairs);
  const path = decodeHashes(value.path);
  if (path.length > MAX_K || pairs.length % PAIR) {
    throw bad("a bucket is pairs with a path of a map");
  }
  if (!["count", "first", "inner"].some((name) => has(value, name))) return { pairs, path };
  parseMembers(value, "pairs path count first inner");
  const count = parseCount(value.count);
  const first = parseCount(value.first);
  const leaves = new Map();
  for (let n = 0; n < pairs.length / PAIR; n++) {
    leaves.set(first + n, leafHash(pairs.subarray(n * PAIR, (n + 1) * PAIR)));
  }
  const paths = splitPaths(leaves, count, decodeHashes(value.inner));
  return { pairs, path, part: { count, first, paths: [...leaves.keys()].map((n) => paths.get(n)) } };
}

function parseMembers(value, names, optional = "") {
  const needed = names.split(" ");
  const allowed = [...needed, ...optional.split(" ")];
  if (
    !isObject(value) || !needed.every((name) => has(value, name)) ||
    !Object.keys(value).every((name) => allowed.includes(name))
  ) {
    throw bad(`the members here are: ${names} ${optional}`.trim());
  }
}

function parseList(value) {
  if (!Array.isArray(value)) throw bad("a list is expected");
  return value;
}

function parseText(value) {
  if (typeof value !== "string") throw bad("a string is expected");
  return value;
}

function parseCount(value) {
  if (!isCount(value)) throw bad("a number from 0 is expected");
  return value;
}
