// How the keys of events came into the registry: ledger/vouching.py.
import { concat, decodeUtf8, equal, utf8 } from "./bytes.js";
import { makeEntry } from "./entry.js";
import { proofError } from "./errors.js";
import { checkInclusion, leafHash } from "./merkle.js";
import { parseNote, parseVkey } from "./note.js";
import { keyActive, keyName, recoveryText, registrationText } from "./registry.js";
import { MIN_DELAY } from "./tables.js";
import { cut, shown as quoted } from "./text.js";
import { parseMoment, SECOND } from "./times.js";

const OPERATOR = "operator";
const refuse = (message) => proofError("proof-failed", message);

/** Looks at what one evidence file shows of keys. */
export class Vouching {
  constructor(evidence, records, operator, checkpoint) {
    Object.assign(this, { evidence, records, operator, checkpoint });
  }

  /** How these keys were registered, and those that vouched for them, in log order. */
  async trace(ids) {
    const found = new Map();
    const todo = [...new Set(ids)].map((id) => `key/${id}`);
    while (todo.length) {
      const name = todo.pop();
      if (found.has(name)) continue;
      const value = this.records.get(name);
      if (!value) throw refuse(`the registry's record ${quoted(name, 100)} is not shown`);
      const vouchers = await this.#vouchers(name, value);
      const { doubted_from: doubtedFrom, recovered } = value;
      found.set(name, {
        key: name.replace(/^key\//, ""),
        department: value.department,
        role: value.role,
        entry: value.from,
        vouched_by: vouchers[0].replace(/^key\//, ""),
        ...(doubtedFrom !== undefined && { doubted_from: doubtedFrom }),
        ...(recovered !== undefined && { recovered }),
      });
      todo.push(...vouchers.filter((each) => each !== OPERATOR));
    }
    const first = new Set();
    for (const { department } of [...found.values()].filter(isFirst)) {
      if (first.has(department)) throw refuse(`two first keys of ${department} are shown`);
      first.add(department);
    }
    return [...found.values()].sort((one, other) => one.entry - other.entry);
  }

  /** Who signed that a new key is the department's, and who announced that before, where it came
   * without the previous one: names of records, or the operator. */
  async #vouchers(name, value) {
    const { from: index, department, role, vkey, recovered } = value;
    const key = parseVkey(vkey);
    const { origin, registrations } = this.evidence;
    const told = registrations.find((each) => each.index === index);
    const brief = cut(name, 0, 68);
    if (!told) throw refuse(`how ${brief} was registered is not shown`);
    const text = registrationText(origin, key, role, department);
    const note = this.#logged(told, text);
    if (name !== `key/${key.id}` || key.name !== keyName(origin, department, role)) {
      throw refuse(`${brief} holds the key of another name`);
    }
    if (!equal(note.text, text)) throw refuse(`entry ${index} does not register ${brief}`);
    await note.checkSignedBy(key);
    if (recovered === undefined) {
      return [await this.#voucher(note, name, value, index, role === "registry")];
    }
    const voucher = await this.#voucher(note, name, value, index, true);
    return [voucher, await this.#announcer(name, value, key, recovered, told.time)];
  }

  /** The note of an entry of this text, which must be in the log. */
  #logged({ index, time, signatures, path }, text) {
    const data = concat(text, utf8(`\n${signatures}`));
    const entry = makeEntry("registry", time, { note: decodeUtf8(data) });
    checkLogged({ index, data: entry.data, path }, this.checkpoint);
    return parseNote(data);
  }

  /** Whose signature on the note of entry `index` says that a key is the department's. */
  async #voucher(note, name, { department }, index, mayBeOperator) {
    for (const [other, said] of this.records) {
      if (!other.startsWith("key/") || other === name || said.role !== "registry") continue;
      if (said.department !== department || !keyActive(said, index)) continue;
      if (await note.isSignedBy(parseVkey(said.vkey))) return other;
    }
    if (this.operator === null || !mayBeOperator || !(await note.isSignedBy(this.operator))) {
      throw refuse(`nobody vouches for ${cut(name, 0, 68)} in entry ${index}`);
    }
    return OPERATOR;
  }

  /** Who announced in entry `index` the key that was registered at the ledger time `time`. */
  async #announcer(name, value, key, index, time) {
    const { origin, announcements } = this.evidence;
    const told = announcements.find((each) => each.index === index);
    const brief = cut(name, 0, 68);
    if (!told) throw refuse(`how ${brief} was announced is not shown`);
    const { replaces, delaySeconds } = told;
    const text = recoveryText(origin, key, value.role, value.department, replaces, delaySeconds);
    const note = this.#logged(told, text);
    const delay = BigInt(delaySeconds) * SECOND;
    const passed = parseMoment(time) - parseMoment(told.time);
    if (delay < BigInt(MIN_DELAY) * SECOND || passed < delay) {
      const seconds = (passed - (((passed % SECOND) + SECOND) % SECOND)) / SECOND;
      throw refuse(`${brief} was registered ${seconds} s after entry ${index} announced it with a ` +
        `delay of ${delaySeconds} s`);
    }
    await note.checkSignedBy(key);
    return this.#voucher(note, name, value, index, true);
  }
}

/** Whether the operator alone vouched for a key, unannounced: a department has one such key. */
const isFirst = (key) => key.vouched_by === OPERATOR && key.recovered === undefined;

/** What `trace` found, in a sentence. */
export function explainKeys(keys) {
  const alone = keys
    .filter(isFirst)
    .map(({ department, entry }) => `${department} in entry ${entry}`);
  let why = "the registry under this checkpoint gave these keys and acts to these departments; " +
    "each key was vouched for by a registry key before it, the first by the operator " +
    `alone: ${alone.join(", ")}`;
  for (const { department, entry, key, recovered, doubted_from: doubtedFrom } of keys) {
    if (recovered !== undefined) {
      why += `; ${department} got the key of entry ${entry} without the previous one, as entry ` +
        `${recovered} had announced`;
    }
    if (doubtedFrom !== undefined) {
      why += `; ${department} declared key ${cut(key, 0, 16)}… compromised from log index ` +
        `${doubtedFrom} on`;
    }
  }
  return why;
}

/** Throws unless a shown entry is in the log under a checkpoint. */
export function checkLogged({ index, data, path }, { size, root }) {
  checkInclusion(leafHash(data), index, size, path, root);
}
