// The trust file and the witnesses' policies in it: ledger/trust.py, checkpoint_keys.py, policy.py.
import { fromHex, utf8 } from "./bytes.js";
import { has, hasMembers, isCount, isObject, parseEdited, under } from "./canonical.js";
import { LedgerError, malformed, proofError, unavailable } from "./errors.js";
import { parseCheckpoint, parseCheckpointKey, parseCosignerKey, parseDecimal, parseVkey, readTime } from "./note.js";
import { MAX_KEYS, MAX_POLICY, MAX_POLICY_LINES, MAX_TRUST, TRUST_FORM, TRUST_MEMBERS, TRUST_OPTIONAL } from "./tables.js";
import { repr, shown } from "./text.js";
import { parseMoment } from "./times.js";

const bad = (message) => malformed("malformed-trust", message);

/** The trust file in bytes or text. */
export function parseTrust(data) {
  const bytes = typeof data === "string" ? utf8(data) : data;
  if (bytes.length > MAX_TRUST) throw bad(`${bytes.length} bytes, at most ${MAX_TRUST}`);
  return under("malformed-trust", () => new Trust(parseEdited(bytes)));
}

const covers = ({ fromSize, untilSize }, size) =>
  fromSize <= size && (untilSize === null || size < untilSize);

/** Who must have signed which checkpoints, and how old they may be. */
class Trust {
  constructor(value) {
    const names = isObject(value) ? Object.keys(value) : [];
    const allowed = [...TRUST_MEMBERS, ...TRUST_OPTIONAL];
    if (
      !isObject(value) || value.format !== TRUST_FORM ||
      !TRUST_MEMBERS.every((name) => has(value, name)) ||
      !names.every((name) => allowed.includes(name))
    ) {
      throw bad(`a trust file is ${repr(TRUST_FORM)} with ${TRUST_MEMBERS.join(", ")}`);
    }
    this.origin = value.origin;
    if (typeof this.origin !== "string" || !this.origin) throw bad("origin is a string");
    this.maxAge = secondsOf(value, "max_checkpoint_age_seconds", 86_400);
    this.maxWitnessDifference = secondsOf(value, "max_witness_difference_seconds", 300);
    if (typeof value.genesis !== "string" || !/^[0-9a-f]{64}$/.test(value.genesis)) {
      throw bad("genesis is the hex leaf hash of entry 0");
    }
    this.genesis = fromHex(value.genesis);
    const operator = value.operator_vkey;
    if (operator !== null && typeof operator !== "string") {
      throw bad("operator_vkey is a verifier key, or null");
    }
    this.operator = operator === null ? null : parseVkey(operator); // as entry 0 has it
    this.keys = listOf(value, "checkpoint_keys").map(parseKey);
    for (const name of ["status_list_keys", "sheet_keys"]) {
      if (listOf(value, name).some((vkey) => typeof vkey !== "string")) {
        throw bad(`${name} holds strings`);
      }
    }
    listOf(value, "status_list_keys").map(parseVkey);
    this.sheetKeys = listOf(value, "sheet_keys").map(parseVkey);
    this.quorums = listOf(value, "quorums").map(parseQuorum);
  }

  /** The keys that must have signed a checkpoint of this size. */
  required(size) {
    return this.keys.filter((key) => covers(key, size)).map(({ key }) => key);
  }

  /** The same where nobody asks for signatures by these keys. */
  without(keys) {
    const kept = this.keys.filter(({ key }) => !keys.includes(key));
    return Object.assign(Object.create(Trust.prototype), this, { keys: kept });
  }

  /** The quorums that a checkpoint of this size must have. */
  policies(size) {
    return this.quorums.filter((quorum) => covers(quorum, size)).map(({ policy }) => policy);
  }

  /** The ledger time from which on the keys for this size say nothing, null for no end. */
  untilTime(size) {
    const required = this.required(size).map(String);
    const ends = this.keys
      .filter(({ key, untilTime }) => untilTime !== null && required.includes(String(key)))
      .map(({ untilTime }) => untilTime);
    return ends.length ? ends.reduce((a, b) => (a < b ? a : b)) : null;
  }

  /** {checkpoint, unchecked}: the checkpoint, signed and cosigned as required, and the keys of
   * signatures that were found and that no browser can check.
   */
  async checkCheckpoint(data) {
    const checkpoint = parseCheckpoint(data);
    const { origin, size, note } = checkpoint;
    if (origin !== this.origin) {
      throw proofError(
        "checkpoint-refused",
        `the checkpoint is of ${shown(origin, 120)}, trusted is ${repr(this.origin)}`,
      );
    }
    const needed = this.required(size);
    if (!needed.length) {
      throw proofError("checkpoint-refused", `no key is named for size ${size}`);
    }
    const unchecked = [];
    for (const key of needed) {
      try {
        if (!(await note.checkSignedBy(key))) unchecked.push(key);
      } catch (error) {
        if (!(error instanceof LedgerError) || error.kind !== "ProofError") throw error;
        throw proofError("checkpoint-refused", `${key.name}: ${error.message}`);
      }
    }
    for (const policy of this.policies(size)) {
      unchecked.push(...(await policy.check(size, note)).unchecked);
    }
    return { checkpoint, signed: needed.length > unchecked.length, unchecked };
  }

  /** Who cosigned a checkpoint, witness to seconds (Map, BigInt); an ML-DSA-44 witness never counts
   * here.
   */
  async cosignatures({ size, note }) {
    const found = new Map();
    for (const policy of this.policies(size)) {
      for (const [name, seconds] of (await policy.cosignatures(note)).found) {
        found.set(name, seconds);
      }
    }
    return found;
  }

  /** Whether those cosignatures alone whose times agree with the ledger's make each quorum. */
  isWitnessed(size, times, ledgerSeconds) {
    const limit = BigInt(this.maxWitnessDifference);
    const agreeing = [...times].filter(([, seconds]) => {
      const difference = seconds - ledgerSeconds;
      return -limit <= difference && difference <= limit;
    });
    const names = agreeing.map(([name]) => name);
    return this.policies(size).every((policy) => policy.isMet(names));
  }
}

function secondsOf(value, name, otherwise) {
  const number = has(value, name) ? value[name] : otherwise;
  if (!isCount(number) || number < 1) throw bad(`${name} is a number from 1`);
  return number;
}

function listOf(value, name) {
  const found = has(value, name) ? value[name] : [];
  if (!Array.isArray(found) || found.length > MAX_KEYS || (has(value, name) && !found.length)) {
    throw bad(`${name} is a list of 1 to ${MAX_KEYS}`);
  }
  return found;
}

function rangeOf({ from_size: from, until_size: until }) {
  if (!isCount(from)) throw bad("from_size is a number from 0");
  if (until !== null && (!isCount(until) || until <= from)) {
    throw bad("until_size is null or a number above from_size");
  }
  return { fromSize: from, untilSize: until };
}

function parseKey(member) {
  const members = ["vkey", "from_size", "until_size", "until_time"];
  if (!isObject(member) || !hasMembers(member, members) || typeof member.vkey !== "string") {
    throw bad(`a checkpoint key has ${members.join(", ")}`);
  }
  const range = rangeOf(member);
  const until = member.until_time;
  if ((range.untilSize === null) !== (until === null) || (until !== null && typeof until !== "string")) {
    throw bad("until_time is a moment where there is an until_size");
  }
  const key = parseCheckpointKey(member.vkey);
  return { key, ...range, untilTime: until === null ? null : parseMoment(until) };
}

function parseQuorum(member) {
  if (!isObject(member) || !hasMembers(member, ["policy", "from_size", "until_size"])) {
    throw bad("a quorum has policy, from_size and until_size");
  }
  const range = rangeOf(member);
  if (typeof member.policy !== "string") throw bad("policy is a C2SP tlog-policy as a string");
  return { policy: new Policy(member.policy), ...range };
}

/** Which witnesses must have cosigned (C2SP tlog-policy). */
class Policy {
  constructor(text) {
    this.logs = [];
    this.witnesses = [];
    this.groups = new Map();
    this.quorum = null;
    this.names = new Set(["none"]);
    this.members = new Set();
    this.#read(text);
  }

  #read(text) {
    const refuse = (message) => malformed("malformed-policy", message);
    if (utf8(text).length > MAX_POLICY || !/^[\t\n\x20-\x7e\x80-\u{10ffff}]*$/u.test(text)) {
      throw refuse(
        `a policy has at most ${MAX_POLICY} bytes and no control characters`,
      );
    }
    if (text && !text.endsWith("\n")) throw refuse("each line of a policy ends in a newline");
    const lines = text.split("\n").slice(0, -1);
    if (lines.length > MAX_POLICY_LINES) {
      throw refuse(`a policy has at most ${MAX_POLICY_LINES} lines`);
    }
    lines.forEach((line, at) => {
      const words = line.replace(/^[ \t]+|[ \t]+$/g, "").split(/[ \t]+/);
      if (!words[0] || words[0].startsWith("#")) return;
      try {
        this.#take(words);
      } catch (error) {
        if (!(error instanceof LedgerError)) throw error;
        throw refuse(`line ${at + 1}: ${error.message}`);
      }
    });
    if (this.quorum === null) throw refuse("a policy has a quorum line");
  }

  #take([kind, ...rest]) {
    const refuse = (message) => malformed("malformed-policy", message);
    const twice = (key, others) => others.some((other) => String(other.bytes) === String(key.bytes));
    if (kind === "log" && (rest.length === 1 || rest.length === 2)) {
      const key = parseCheckpointKey(rest[0]);
      if (twice(key, this.logs)) throw refuse("this log's key stands twice");
      this.logs.push(key);
    } else if (kind === "witness" && (rest.length === 2 || rest.length === 3)) {
      const key = parseCosignerKey(rest[1]);
      if (twice(key, this.witnesses.map((witness) => witness.key))) {
        throw refuse("this witness's key stands twice");
      }
      this.#define(rest[0]);
      this.witnesses.push({ name: rest[0], key });
    } else if (kind === "group" && rest.length >= 3) {
      this.#group(rest[0], rest[1], rest.slice(2));
    } else if (kind === "quorum" && rest.length === 1) {
      if (this.quorum !== null) throw refuse("a second quorum line");
      if (!this.names.has(rest[0])) throw refuse(`${repr(rest[0])} is not defined before`);
      this.quorum = rest[0];
    } else {
      throw refuse(`not a line of a policy: ${shown([kind, ...rest].join(" "), 80)}`);
    }
  }

  #group(name, threshold, members) {
    const refuse = (message) => malformed("malformed-policy", message);
    for (const member of members) {
      if (member === "none" || !this.names.has(member)) {
        throw refuse(`${repr(member)} is not defined before`);
      }
      if (this.members.has(member)) throw refuse(`${repr(member)} is in a group already`);
      this.members.add(member);
    }
    const words = { all: members.length, any: 1 };
    const count = has(words, threshold) ? words[threshold] : Number(parseDecimal(threshold));
    if (!(1 <= count && count <= members.length)) {
      throw refuse(`${threshold} of ${members.length} members`);
    }
    this.#define(name);
    this.groups.set(name, { threshold: count, members });
  }

  #define(name) {
    if (this.names.has(name)) throw malformed("malformed-policy", `${repr(name)} is defined already`);
    this.names.add(name);
  }

  /** Whether cosignatures of these witnesses, by name, make the quorum. */
  isMet(cosigned) {
    const met = (name) => {
      const group = this.groups.get(name);
      if (!group) return cosigned.includes(name);
      return group.members.filter(met).length >= group.threshold;
    };
    return this.quorum === "none" || met(this.quorum);
  }

  /** {found: Map of witness to seconds, unchecked: keys of ML-DSA-44 lines} of a note. */
  async cosignatures(note) {
    const found = new Map();
    const unchecked = [];
    for (const { name, key } of this.witnesses) {
      const line = note.by(key);
      if (!line) continue;
      if (await note.checkSignedBy(key)) found.set(name, readTime(line.signature));
      else unchecked.push(key);
    }
    return { found, unchecked };
  }

  /** As `cosignatures`; refused where the quorum is missing, or every log that the policy names.
   *
   * Where ML-DSA-44 lines that nobody checks here might make the quorum, `signature-unsupported`.
   */
  async check(size, note) {
    let told;
    try {
      told = await this.cosignatures(note);
      if (this.logs.length && !this.logs.some((key) => note.by(key))) {
        throw proofError("bad-signature", "none of the policy's logs signed it");
      }
      for (const key of this.logs) {
        if (note.by(key) && !(await note.checkSignedBy(key))) told.unchecked.push(key);
      }
    } catch (error) {
      if (!(error instanceof LedgerError) || error.kind !== "ProofError") throw error;
      throw proofError("checkpoint-refused", error.message);
    }
    const { found, unchecked } = told;
    if (!this.isMet([...found.keys()])) {
      const claimed = this.witnesses.filter(({ key }) => unchecked.includes(key));
      if (this.isMet([...found.keys(), ...claimed.map(({ name }) => name)])) {
        throw unavailable("signature-unsupported");
      }
      throw proofError(
        "checkpoint-refused",
        `the quorum ${repr(this.quorum)} of witnesses has not cosigned size ${size}: ` +
          `${found.size} of ${this.witnesses.length} did`,
      );
    }
    return told;
  }
}
