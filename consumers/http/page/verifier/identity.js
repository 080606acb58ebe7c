// Certificate numbers, GB/T 36904 identifiers, map keys: ledger/identity.py.
import { bigEndian, readBigEndian, sha256, utf8 } from "./bytes.js";
import { malformed } from "./errors.js";
import { MAX_NUMBER } from "./tables.js";
import { isAscii, shown, SPACE } from "./text.js";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const GB = /^1\.2\.156\.3005\.2\.([0-9A-Z]{18}[0-9A-Z]{3})\.([0-9A-Z]{6,21})\.([0-9A-Z]{1,64})\.([0-9]{3})\.([0-9A-Z])$/;
const DEPARTMENT = /^[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?$/;
const TYPE = /^[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,126}[a-zA-Z0-9])?$/;
const CONTROL = /[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]/u;
const PSEUDONYM = /^[1-9][0-9]{0,5}:[0-9a-f]{64}$/;
const ENDS = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");

export function checkDepartment(text) {
  if (!DEPARTMENT.test(text)) {
    throw malformed("malformed-number", `${shown(text, 70)} is no department id`);
  }
}

export function checkType(text) {
  if (!TYPE.test(text)) {
    throw malformed("malformed-number", `${shown(text, 70)} is no certificate type code`);
  }
}

/** `text` as certificate numbers are kept: form C, full-width ASCII folded, ends trimmed. */
export function normaliseNumber(text) {
  const folded = text.replace(/[\u3000\uff01-\uff5e]/g, (c) =>
    c === "\u3000" ? " " : String.fromCharCode(c.charCodeAt(0) - 0xfee0));
  return (isAscii(folded) ? folded : folded.normalize("NFC")).replace(ENDS, "");
}

export function checkNumber(text) {
  if (!text || utf8(text).length > MAX_NUMBER) {
    throw malformed("malformed-number", `a certificate number has 1 to ${MAX_NUMBER} bytes`);
  }
  if (normaliseNumber(text) !== text) {
    throw malformed("malformed-number", "the certificate number is not in normalised form");
  }
  if (CONTROL.test(text)) {
    throw malformed("malformed-number", "the certificate number holds control characters");
  }
}

/** The status map's key of a certificate; `issuer` is the original one, for ever. */
export function certificateKey(type, issuer, number) {
  const parts = [type, issuer, number].map(utf8);
  return sha256(utf8("C"), ...parts.flatMap((part) => [bigEndian(part.length, 2), part]));
}

/** The lane on which a department's events about this certificate travel. */
export const laneOf = (key, lanes) => Number(readBigEndian(key.subarray(0, 8)) % BigInt(lanes));

export function checkPseudonym(text) {
  if (!PSEUDONYM.test(text)) {
    throw malformed("malformed-number", "a holder pseudonym is VERSION:64 hex digits");
  }
}

/** {serial, version} of a GB/T 36904 identifier, its check character verified. */
export function parseIdentifier(text) {
  const match = GB.exec(text);
  if (!match) {
    throw malformed("malformed-number", "not of the form of a GB/T 36904 identifier");
  }
  const [, type, issuer, serial, version, check] = match;
  if (Number(version) < 1) {
    throw malformed("malformed-number", "an identifier's version is 001 or more");
  }
  const expected = checkCharacter(type + issuer + serial + version);
  if (check !== expected) {
    throw malformed("malformed-number", `check character ${check} found, ${expected} expected`);
  }
  return { serial, version: Number(version) };
}

/** The ISO 7064 MOD 37,36 check character over digits and capitals. */
function checkCharacter(payload) {
  let value = 36;
  for (const char of payload) {
    value = (value + ALPHABET.indexOf(char)) % 36 || 36;
    value = (value * 2) % 37;
  }
  return ALPHABET[(37 - value) % 36];
}
