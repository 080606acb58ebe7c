// Canonical JSON (FORMATS.md, section 1), read strictly: ledger/canonical.py in JavaScript.
//
// Objects have no prototype, so that no member name means anything to the language. Integers are
// numbers; BigInt beyond 2^53 - 1, which the profile refuses.
import { decodeUtf8, equal, utf8 } from "./bytes.js";
import { LedgerError, malformed } from "./errors.js";
import { MAX_DEPTH } from "./tables.js";
import { byCodePoints, firstUnassigned, hasLoneSurrogate, isAscii, repr, typeName } from "./text.js";

const TOKEN = /[ \t\n\r]*(?:([[\]{}:,])|"((?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"|(true|false|null)|(-?(?:0|[1-9][0-9]*))(?![0-9.eE]))/y;
const ESCAPE = /\\(?:u([0-9a-fA-F]{4})|(.))/g;
const NAMED = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
const MUST_ESCAPE = /["\\\x00-\x1f]/g;
const SHORT = { '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const MAX_NESTING = 990; // Python's own reader gives up near here
const MAX_DIGITS = 4300; // of an integer that Python reads

const notJson = () => malformed("not-json");
const tooDeep = () => malformed("not-json", `nested deeper than ${MAX_DEPTH}`);

/** Whether a value is a JSON object. */
export const isObject = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Whether a value is an integer from 0. */
export const isCount = (value) => typeof value === "number" && value >= 0;

export const has = (value, name) => Object.hasOwn(value, name);

/** Whether an object has exactly these members. */
export const hasMembers = (value, names) =>
  Object.keys(value).length === names.length && names.every((name) => has(value, name));

/** The value in a JSON text; of a member that stands twice the last one, or none where `unique`. */
export function load(text, unique = false) {
  let at = 0;
  const next = () => {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) throw notJson();
    at = TOKEN.lastIndex;
    return match;
  };
  const value = ([, sign, string, word, number], depth) => {
    if (string !== undefined) return unescape(string);
    if (word !== undefined) return word === "null" ? null : word === "true";
    if (number !== undefined) return integer(number);
    if (depth > MAX_NESTING) throw tooDeep();
    if (sign === "[") return array(depth);
    if (sign === "{") return object(depth);
    throw notJson();
  };
  const array = (depth) => {
    const items = [];
    let token = next();
    if (token[1] === "]") return items;
    for (;;) {
      items.push(value(token, depth + 1));
      const sign = next()[1];
      if (sign === "]") return items;
      if (sign !== ",") throw notJson();
      token = next();
    }
  };
  const object = (depth) => {
    const members = Object.create(null);
    let token = next();
    if (token[1] === "}") return members;
    for (;;) {
      if (token[2] === undefined || next()[1] !== ":") throw notJson();
      const name = unescape(token[2]);
      if (unique && has(members, name)) throw notJson();
      members[name] = value(next(), depth + 1);
      const sign = next()[1];
      if (sign === "}") return members;
      if (sign !== ",") throw notJson();
      token = next();
    }
  };
  const whole = value(next(), 0);
  if (/[^ \t\n\r]/.test(text.slice(at))) throw notJson();
  return whole;
}

function integer(text) {
  if (text.length - (text[0] === "-") > MAX_DIGITS) throw notJson();
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : BigInt(text);
}

function unescape(text) {
  return text.includes("\\")
    ? text.replace(ESCAPE, (_, code, char) =>
        code ? String.fromCharCode(parseInt(code, 16)) : (NAMED[char] ?? char))
    : text;
}

/** The canonical text of a value. */
export function print(value) {
  if (typeof value === "string") {
    const escape = (c) => SHORT[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
    return `"${value.replace(MUST_ESCAPE, escape)}"`;
  }
  if (Array.isArray(value)) return `[${value.map(print).join(",")}]`;
  if (!isObject(value)) return String(value);
  const names = Object.keys(value).sort(byCodePoints);
  return `{${names.map((name) => `${print(name)}:${print(value[name])}`).join(",")}}`;
}

/** The canonical bytes of a value, which must be within the profile. */
export function format(value) {
  checkProfile(value);
  const text = print(value);
  checkText(text); // an escape's last letter and a combining mark after it would compose
  return utf8(text);
}

/** The value of canonical bytes of at most `limit`; anything else is refused. */
export function parse(data, limit) {
  if (data.length > limit) {
    throw malformed("too-large", `${data.length} bytes, at most ${limit} are allowed`);
  }
  let text;
  try {
    text = decodeUtf8(data);
  } catch {
    throw notJson();
  }
  if (!isAscii(text)) checkForm(text);
  const value = load(text);
  const again = print(value);
  if (hasLoneSurrogate(again)) throw notJson();
  if (!equal(utf8(again), data)) throw malformed("not-canonical");
  checkProfile(value);
  return value;
}

/** The value of JSON bytes in which people may put white space; no member stands twice. */
export function parseEdited(data) {
  let text;
  try {
    text = decodeUtf8(data);
  } catch {
    throw notJson();
  }
  const value = load(text, true);
  checkProfile(value);
  return value;
}

/** Throws where a value is not within the profile. */
function checkProfile(value, depth = MAX_DEPTH) {
  if (typeof value === "string") {
    checkText(value);
  } else if (Array.isArray(value)) {
    if (depth === 0) throw tooDeep();
    for (const item of value) checkProfile(item, depth - 1);
  } else if (typeof value === "object" && value !== null) {
    if (depth === 0) throw tooDeep();
    for (const name of Object.keys(value).sort(byCodePoints)) {
      if (!isAscii(name)) throw malformed("not-json", `member name ${repr(name)} is not ASCII`);
      checkProfile(value[name], depth - 1);
    }
  } else if (typeof value === "bigint") {
    throw malformed("not-json", "an integer is beyond 2^53 - 1");
  } else if (value !== null && typeof value !== "boolean" && typeof value !== "number") {
    throw malformed("not-json", `${typeName(value)} is not in the ledger's profile`);
  }
}

/** Throws for text that is not in form C, of Unicode 14.0, or holds a lone surrogate. */
export function checkText(text) {
  if (isAscii(text)) return;
  if (hasLoneSurrogate(text)) throw malformed("not-json", "text holds a lone surrogate");
  checkForm(text);
}

function checkForm(text) {
  const unassigned = firstUnassigned(text);
  if (unassigned !== undefined) {
    const point = unassigned.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    throw malformed("not-canonical", `U+${point} is no character of Unicode 14.0`);
  }
  if (text.normalize("NFC") !== text) {
    throw malformed("not-canonical", "text is not in Unicode normalisation form C");
  }
}

/** What `read` gives, its refusals under one code. */
export function under(code, read) {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
    throw malformed(code, error.message);
  }
}
