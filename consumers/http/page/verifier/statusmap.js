// What a status map says of a key: ledger/statusmap.py.
import { bigEndian, compare, concat, equal, readBigEndian, sha256, utf8 } from "./bytes.js";
import { proofError } from "./errors.js";
import { checkInclusion, inclusionRoot, leafHash } from "./merkle.js";
import { BUCKET_TAG, MAX_K, SMALL_BUCKET } from "./tables.js";

const PAIR = 64;
const KEY = 32;

const refuse = (message) => proofError("proof-failed", message);

const bucketOf = (key, k) => Number(readBigEndian(key.subarray(0, 4)) >> BigInt(MAX_K - k));

const pairsOf = (bucket) =>
  Array.from({ length: Math.ceil(bucket.length / PAIR) }, (_, i) =>
    bucket.subarray(i * PAIR, (i + 1) * PAIR));

/** Throws unless the map with this root and k says `record` (a hash, or null) of `key`.
 *
 * `shown` has `pairs` (bytes), `path`, and of a large bucket `part`: `count`, `first`, `paths`.
 */
export function checkMembership(root, kind, k, key, record, shown) {
  if (shown.path.length !== k) throw refuse(`not a path in a map of k = ${k}`);
  const number = bucketOf(key, k);
  const pairs = checkBucket(k, number, shown.pairs);
  let content = shown.pairs;
  let count = pairs.length;
  if (shown.part) {
    count = shown.part.count;
    content = partRoot(shown.part, key, pairs);
  } else if (count > SMALL_BUCKET) {
    throw refuse(`a bucket of more than ${SMALL_BUCKET} pairs is shown in part`);
  }
  const place = concat(bigEndian(number, 4), bigEndian(count, 4));
  const leaf = sha256([0], utf8(BUCKET_TAG), utf8(kind), [k], place, content);
  checkInclusion(leaf, number, 2 ** k, shown.path, root);
  const pair = pairs.find((each) => equal(each.subarray(0, KEY), key));
  const found = pair ? pair.subarray(KEY) : null;
  if (found === null ? record !== null : record === null || !equal(found, record)) {
    if (found === null) throw refuse("the map holds no record of this key");
    if (record === null) throw refuse("the map holds a record of this key");
    throw refuse("the map holds another record of this key");
  }
}

function checkBucket(k, number, bucket) {
  if (bucket.length % PAIR) throw refuse("a bucket is pairs of 64 bytes");
  const pairs = pairsOf(bucket);
  const keys = pairs.map((pair) => pair.subarray(0, KEY));
  if (keys.some((key, i) => i && compare(keys[i - 1], key) >= 0)) {
    throw refuse("a bucket's keys are not strictly ascending");
  }
  const ends = keys.length ? [keys[0], keys[keys.length - 1]] : [];
  if (ends.some((key) => bucketOf(key, k) !== number)) {
    throw refuse("a bucket lists a key of another bucket");
  }
  return pairs;
}

/** The root over all pairs of a large bucket, when what is shown settles what it says of `key`. */
function partRoot({ count, first, paths }, key, pairs) {
  const keys = pairs.map((pair) => pair.subarray(0, KEY));
  const last = first + paths.length - 1;
  if (!(SMALL_BUCKET < count && count < 2 ** 32 && first <= last && last < count)) {
    throw refuse("no such part of a large bucket");
  }
  const order = keys.map((each) => compare(key, each));
  if (
    keys.length !== paths.length ||
    !(
      (keys.length === 1 && order[0] === 0) ||
      (keys.length === 1 && first === 0 && order[0] < 0) ||
      (keys.length === 1 && last === count - 1 && order[0] > 0) ||
      (keys.length === 2 && order[0] > 0 && order[1] < 0)
    )
  ) {
    throw refuse("neither the key's pair nor the pairs it would be between");
  }
  const roots = pairs.map((pair, i) => inclusionRoot(leafHash(pair), first + i, count, paths[i]));
  if (!roots.every((root) => equal(root, roots[0]))) {
    throw refuse("two pairs of a bucket lead to two roots");
  }
  return roots[0];
}
