// Ed25519 as RFC 8032 verifies without cofactor: WebCrypto, or noble where the browser lacks it.
import { equal, readBigEndian } from "./bytes.js";
import { malformed } from "./errors.js";

const PRIME = 2n ** 255n - 19n;
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
// The y coordinates of the eight points of order 1, 2, 4 and 8.
const SMALL_ORDER_Y = new Set([
  0n,
  1n,
  PRIME - 1n,
  2707385501144840649318225287225658788936804267575313519463743609750303402022n,
  55188659117513257062467267217118295137698188065244968500265048394206261417927n,
]);

const littleEndian = (bytes) => readBigEndian(Uint8Array.from(bytes).reverse());

/** Throws for a public key that is not canonical (y below the prime) or of small order. */
export function checkPublic(key) {
  if (key.length !== 32) throw malformed("malformed-key", "an Ed25519 public key has 32 bytes");
  const y = littleEndian(key) & (2n ** 255n - 1n);
  if (y >= PRIME) throw malformed("malformed-key", "the public key is not canonically encoded");
  if (SMALL_ORDER_Y.has(y)) {
    throw malformed("malformed-key", "the public key is a point of small order");
  }
}

/** Whether `signature` is the key's over `message`. */
export async function verify(key, signature, message) {
  if (signature.length !== 64) return false;
  const subtle = await webCrypto();
  return subtle
    ? verifyBySubtle(subtle, key, signature, message)
    : verifyByNoble(key, signature, message);
}

let probed;

/** What the answer says: by which code signatures are checked here. */
export const library = async () => ((await webCrypto()) ? "WebCrypto" : "@noble/ed25519");

/** Forget whether the browser has Ed25519; tests take it away. */
export function forget() {
  probed = undefined;
}

/** crypto.subtle where it verifies Ed25519, null elsewhere: on pages without TLS, in old browsers. */
function webCrypto() {
  probed ??= (async () => {
    const subtle = globalThis.crypto?.subtle;
    try {
      // RFC 8032 section 7.1, test 1: over the empty message.
      const key = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
      const signature = bytes(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
      );
      const works = subtle && (await verifyBySubtle(subtle, key, signature, new Uint8Array()));
      return works ? subtle : null;
    } catch {
      return null;
    }
  })();
  return probed;
}

const bytes = (text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));

async function verifyBySubtle(subtle, key, signature, message) {
  let imported;
  try {
    imported = await subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    if (error.name === "DataError") return false; // a point that is not on the curve
    throw error;
  }
  return subtle.verify({ name: "Ed25519" }, imported, signature, message);
}

async function verifyByNoble(key, signature, message) {
  const { Point, sha512 } = await import("./vendor/noble-ed25519.js");
  const s = littleEndian(signature.subarray(32));
  if (s >= ORDER) return false;
  let a;
  try {
    a = Point.fromBytes(key, false);
  } catch {
    return false; // not on the curve
  }
  const r = signature.subarray(0, 32);
  const joined = new Uint8Array(64 + message.length);
  joined.set(r);
  joined.set(key, 32);
  joined.set(message, 64);
  const k = littleEndian(sha512(joined)) % ORDER;
  const found = Point.BASE.multiply(s, false).add(a.negate().multiply(k, false));
  return equal(found.toBytes(), r);
}
