// Text as Python has it, where sentences and rules depend on it: code points, repr, white space.
import { UNASSIGNED } from "./tables.js";

/** What Python takes for white space, inside a character class. */
export const SPACE =
  "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

const SURROGATE = /[\ud800-\udfff]/;
const LONE = /\p{Cs}/u;
const UNPRINTABLE = /[\p{C}\p{Z}]/u;
const ASCII = /^[\x00-\x7f]*$/;
const BEYOND = /[^\x00-\x7f]/gu;
// First code points of ranges that Unicode 14.0 does not assign, and those after them.
const edges = [];

export const isAscii = (text) => ASCII.test(text);

export const hasLoneSurrogate = (text) => LONE.test(text);

/** `text[begin:end]`, in code points. */
export function cut(text, begin, end) {
  if (!SURROGATE.test(text)) return text.slice(begin, end);
  return Array.from(text).slice(begin, end).join("");
}

/** The order of two texts by code points. */
export function byCodePoints(one, other) {
  if (one === other) return 0;
  if (isAscii(one) && isAscii(other)) return one < other ? -1 : 1;
  const a = Array.from(one, (c) => c.codePointAt(0));
  const b = Array.from(other, (c) => c.codePointAt(0));
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

/** The first character that Unicode 14.0 does not assign. */
export function firstUnassigned(text) {
  if (!edges.length) {
    let at = 0;
    for (const step of UNASSIGNED.split(" ")) edges.push((at += parseInt(step, 36)));
  }
  for (const [char] of text.matchAll(BEYOND)) {
    const point = char.codePointAt(0);
    let low = 0;
    let high = edges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (edges[middle] <= point) low = middle + 1;
      else high = middle;
    }
    if (low % 2) return char;
  }
  return undefined;
}

/** Python's `repr` of a text. */
export function repr(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let out = quote;
  for (const char of text) {
    const point = char.codePointAt(0);
    if (char === "\\" || char === quote) out += `\\${char}`;
    else if (char === "\n") out += "\\n";
    else if (char === "\r") out += "\\r";
    else if (char === "\t") out += "\\t";
    else if (char === " ") out += char;
    else if (!UNPRINTABLE.test(char) && firstUnassigned(char) === undefined) out += char;
    else if (point < 256) out += `\\x${point.toString(16).padStart(2, "0")}`;
    else if (point < 65536) out += `\\u${point.toString(16).padStart(4, "0")}`;
    else out += `\\U${point.toString(16).padStart(8, "0")}`;
  }
  return out + quote;
}

/** `repr(text[:length])`. */
export const shown = (text, length) => repr(cut(text, 0, length));

/** Python's `str` of a JSON value. */
export function str(value) {
  if (typeof value === "string") return value;
  const inner = (item) => (typeof item === "string" ? repr(item) : str(item));
  if (Array.isArray(value)) return `[${value.map(inner).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return String(value);
  return `{${Object.entries(value).map(([name, item]) => `${repr(name)}: ${inner(item)}`).join(", ")}}`;
}

/** What Python calls the type of a JSON value. */
export function typeName(value) {
  if (value === null) return "NoneType";
  if (Array.isArray(value)) return "list";
  const names = { string: "str", boolean: "bool", number: "int", bigint: "int", object: "dict" };
  return names[typeof value];
}
