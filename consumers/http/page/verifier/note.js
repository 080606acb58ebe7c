// Signed notes, keys and cosignatures: ledger/note.py, ledger/cosignature.py, ledger/checkpoint.py.
//
// ML-DSA-44 is in no browser: such a signature is looked for and not checked (`unchecked`).
import { base64, concat, decodeBase64, decodeHash, decodeUtf8 } from "./bytes.js";
import { hex, readBigEndian, sha256, utf8 } from "./bytes.js";
import { checkText } from "./canonical.js";
import { checkPublic, verify } from "./ed25519.js";
import { attempt, LedgerError, malformed, proofError } from "./errors.js";
import { MAX_NOTE, MAX_SIGNATURES } from "./tables.js";
import { shown, SPACE } from "./text.js";

const ED25519 = 1;
const COSIGNATURE_V1 = 4;
export const ML_DSA_44 = 6;
const PUBLIC_BYTES = { [COSIGNATURE_V1]: 32, [ML_DSA_44]: 1312 };
const SIGNATURE_BYTES = { [COSIGNATURE_V1]: 64, [ML_DSA_44]: 2420 };
const MAX_COSIGNER_NAME = 255;
const MAX_TIME = 2n ** 63n - 1n;
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f]/;
const NAME = new RegExp(`^[^${SPACE}+\\x00-\\x1f\\x7f]{1,512}$`, "u");

/** A public key under its name: what a signature line is checked with. */
export class Key {
  constructor(name, kind, bytes) {
    this.name = name;
    this.kind = kind;
    this.bytes = bytes;
    this.hash = hex(keyHash(name, kind, bytes));
  }

  /** How registry records and transitions name a key. */
  get id() {
    return hex(sha256(this.bytes));
  }

  /** A key for people: its name and hash. */
  get short() {
    return `${this.name}+${this.hash}`;
  }

  toString() {
    return `${this.short}+${base64(concat([this.kind], this.bytes))}`;
  }

  /** Throws unless `signature` is this key's over `text`; false for ML-DSA-44, which no browser
   * checks. */
  async check(text, signature) {
    if (this.kind === ED25519) return this.#check(text, signature);
    if (signature.length !== 8 + SIGNATURE_BYTES[this.kind]) {
      throw proofError("bad-signature", `a cosignature of ${signature.length} bytes`);
    }
    const seconds = readTime(signature);
    if (this.kind === ML_DSA_44) return false;
    const message = concat(utf8(`cosignature/v1\ntime ${seconds}\n`), text);
    return this.#check(message, signature.subarray(8));
  }

  async #check(message, signature) {
    if (!(await verify(this.bytes, signature, message))) throw proofError("bad-signature");
    return true;
  }
}

/** A parsed note: `text` (bytes) ends in a newline and is what was signed. */
export class Note {
  constructor(text, signatures) {
    this.text = text;
    this.signatures = signatures;
  }

  /** The signature that claims to be by `key`. */
  by(key) {
    return this.signatures.find(({ name, hash }) => name === key.name && hash === key.hash);
  }

  /** Throws unless `key` signed the text; whether that was checked. */
  async checkSignedBy(key) {
    const claimed = this.by(key);
    if (!claimed) throw proofError("bad-signature", `no signature by ${key.name} (${key.hash})`);
    return key.check(this.text, claimed.signature);
  }

  /** Whether a key signed it, and nothing else in its name. */
  async isSignedBy(key) {
    try {
      return await this.checkSignedBy(key);
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      return false;
    }
  }
}

const keyHash = (name, kind, bytes) =>
  sha256(utf8(`${name}\n`), [kind], bytes).subarray(0, 4);

/** Seconds since 1970 that a cosignature states. */
export function readTime(signature) {
  const seconds = readBigEndian(signature.subarray(0, 8));
  if (signature.length < 8 || seconds > MAX_TIME) {
    throw proofError("bad-signature", "a cosignature's time has at most 63 bits");
  }
  return seconds;
}

function splitVkey(text) {
  const [name, hash, ...rest] = text.split("+");
  if (!rest.length || !isName(name)) {
    throw malformed("malformed-key", "a verifier key is NAME+HASH+BASE64");
  }
  const raw = decodeBase64(rest.join("+"), "malformed-key");
  if (raw.length < 2) throw malformed("malformed-key", "a verifier key holds its type and the key");
  const key = new Key(name, raw[0], raw.subarray(1));
  if (key.hash !== hash) {
    throw malformed("malformed-key", `${shown(hash, 16)} is not the hash of this key`);
  }
  return key;
}

const isName = (text) =>
  attempt(() => {
    checkText(text);
    return NAME.test(text);
  }, () => false);

/** The Ed25519 key in `name+hash+key`. */
export function parseVkey(text) {
  const key = splitVkey(text);
  if (key.kind !== ED25519) {
    const found = `a key of type ${key.kind}: an Ed25519 key, type 1, is needed`;
    throw malformed("malformed-key", found);
  }
  checkPublic(key.bytes);
  return key;
}

/** The cosigner's key in `name+hash+key`, type 0x04 or 0x06. */
export function parseCosignerKey(text) {
  const key = splitVkey(text);
  if (key.bytes.length !== PUBLIC_BYTES[key.kind]) {
    const found = `type ${key.kind}, ${key.bytes.length} bytes: no cosigner's key`;
    throw malformed("malformed-key", found);
  }
  if (key.kind === COSIGNATURE_V1) checkPublic(key.bytes);
  else if (utf8(key.name).length > MAX_COSIGNER_NAME) {
    throw malformed("malformed-key", "an ML-DSA-44 cosigner's name has at most 255 bytes");
  }
  return key;
}

/** A key that signs or cosigns checkpoints. */
export const parseCheckpointKey = (text) =>
  splitVkey(text).kind === ED25519 ? parseVkey(text) : parseCosignerKey(text);

/** The note in `data`, which must be what a signer prints. */
export function parseNote(data) {
  if (data.length > MAX_NOTE) {
    throw malformed("malformed-note", `a note of ${data.length} bytes, at most ${MAX_NOTE}`);
  }
  let whole;
  try {
    whole = decodeUtf8(data);
    checkText(whole);
  } catch {
    throw malformed("malformed-note", "a note is UTF-8 in normalisation form C");
  }
  if (CONTROL.test(whole)) throw malformed("malformed-note", "a note holds no control characters");
  const at = whole.lastIndexOf("\n\n");
  if (at < 0 || !whole.endsWith("\n")) {
    throw malformed("malformed-note", "a note is a text, an empty line and signature lines");
  }
  const lines = whole.slice(at + 2).split("\n").slice(0, -1);
  if (lines.length < 1 || lines.length > MAX_SIGNATURES) {
    throw malformed("malformed-note", `a note has 1 to ${MAX_SIGNATURES} signatures`);
  }
  const signatures = lines.map(parseSignature);
  if (new Set(signatures.map((s) => `${s.name}+${s.hash}`)).size < signatures.length) {
    throw malformed("malformed-note", "two signatures by one name and key hash");
  }
  return new Note(utf8(whole.slice(0, at + 1)), signatures);
}

function parseSignature(line) {
  const parts = line.split(" ");
  if (parts.length !== 3 || parts[0] !== "\u2014" || !isName(parts[1])) {
    throw malformed("malformed-note", `not a signature line: ${shown(line, 60)}`);
  }
  const raw = decodeBase64(parts[2]);
  if (raw.length < 5) {
    throw malformed("malformed-note", "a signature is a 4-byte key hash and more");
  }
  return { name: parts[1], hash: hex(raw.subarray(0, 4)), signature: raw.subarray(4) };
}

/** A non-negative decimal (BigInt) without sign, leading zero or foreign digits. */
export function parseDecimal(text, limit = 2n ** 63n - 1n, code = "malformed-note") {
  if (!/^[0-9]+$/.test(text) || (text[0] === "0" && text !== "0")) {
    throw malformed(code, `${shown(text, 24)} is no decimal number`);
  }
  if (text.length > 19 || BigInt(text) > limit) {
    throw malformed(code, `${text.slice(0, 24)} is over ${limit}`);
  }
  return BigInt(text);
}

/** {origin, size (BigInt), root, note} of a signed checkpoint, its signatures not yet checked. */
export function parseCheckpoint(data) {
  const note = parseNote(data);
  const lines = decodeUtf8(note.text).split("\n");
  if (lines.length !== 4 || !lines.slice(0, 3).every(Boolean)) {
    throw malformed("malformed-note", "a checkpoint has three lines: origin, size, root");
  }
  return { origin: lines[0], size: parseDecimal(lines[1]), root: decodeHash(lines[2]), note };
}
