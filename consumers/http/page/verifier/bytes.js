// Bytes, and the texts that stand for them: UTF-8, hex, base64, big-endian numbers.
import { malformed } from "./errors.js";
import { sha256 as digest } from "./vendor/noble-hashes.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

export const utf8 = (text) => encoder.encode(text);

/** The text in UTF-8 bytes; TypeError where they are none. */
export const decodeUtf8 = (bytes) => decoder.decode(bytes);

export function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** SHA-256 of the parts, joined. */
export const sha256 = (...parts) => digest(concat(...parts));

/** Below, equal or above 0, as Python orders bytes. */
export function compare(one, other) {
  const length = Math.min(one.length, other.length);
  for (let i = 0; i < length; i++) if (one[i] !== other[i]) return one[i] - other[i];
  return one.length - other.length;
}

export const equal = (one, other) => compare(one, other) === 0;

export const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

/** The bytes of an even number of hex digits, which the caller has checked. */
export const fromHex = (text) =>
  Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.substr(2 * i, 2), 16));

/** A number as `size` bytes, big-endian. */
export function bigEndian(number, size) {
  const bytes = new Uint8Array(size);
  let rest = BigInt(number);
  for (let i = size - 1; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 255n);
  return bytes;
}

/** The number (BigInt) in big-endian bytes. */
export const readBigEndian = (bytes) => BigInt(`0x${hex(bytes) || "0"}`);

export function base64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const three = (bytes[i] << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    text += ALPHABET[three >> 18] + ALPHABET[(three >> 12) & 63];
    text += i + 1 < bytes.length ? ALPHABET[(three >> 6) & 63] : "=";
    text += i + 2 < bytes.length ? ALPHABET[three & 63] : "=";
  }
  return text;
}

/** The bytes of canonical padded base64 (RFC 4648 section 4). */
export function decodeBase64(text, code = "malformed-note") {
  if (!BASE64.test(text)) throw malformed(code, "not base64");
  const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  if (base64(raw) !== text) throw malformed(code, "not canonical base64");
  return raw;
}

/** The 32 bytes of a base64 hash. */
export function decodeHash(text, code = "malformed-note") {
  const raw = decodeBase64(text, code);
  if (raw.length !== 32) throw malformed(code, "a hash has 32 bytes");
  return raw;
}
