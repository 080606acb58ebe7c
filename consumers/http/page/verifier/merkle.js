// RFC 6962 Merkle proofs (RFC 9162 section 2.1): ledger/merkle.py. Sizes are numbers or BigInt.
import { equal, sha256 } from "./bytes.js";
import { proofError } from "./errors.js";

export const leafHash = (data) => sha256([0], data);
const nodeHash = (left, right) => sha256([1], left, right);

/** Throws unless leaf hash `leaf` is number `index` of the tree. */
export function checkInclusion(leaf, index, size, proof, root) {
  checkHashes([root]);
  if (!equal(inclusionRoot(leaf, index, size, proof), root)) {
    throw proofError("proof-failed", "the inclusion proof leads to another root");
  }
}

/** The root that an inclusion proof of leaf hash `leaf` leads to (section 2.1.3.2). */
export function inclusionRoot(leaf, index, size, proof) {
  checkHashes([leaf, ...proof]);
  let fn = BigInt(index);
  let sn = BigInt(size) - 1n;
  if (fn < 0n || fn > sn) {
    throw proofError("proof-failed", `no leaf ${index} in a tree of ${size} leaves`);
  }
  let running = leaf;
  for (const sibling of proof) {
    if (sn === 0n) throw proofError("proof-failed", "the inclusion proof is too long");
    if (fn & 1n || fn === sn) {
      running = nodeHash(sibling, running);
      while (fn && !(fn & 1n)) {
        fn >>= 1n;
        sn >>= 1n;
      }
    } else {
      running = nodeHash(running, sibling);
    }
    fn >>= 1n;
    sn >>= 1n;
  }
  if (sn) throw proofError("proof-failed", "the inclusion proof is too short");
  return running;
}

/** The inclusion path of each leaf (Map of place to leaf hash) out of joined ones: going through the
 * tree from left to right, the hash of each largest subtree that holds none of them. Whether they
 * lead to any root is not asked. */
export function splitPaths(leaves, size, joined) {
  const places = [...leaves.keys()].sort((one, other) => (one < other ? -1 : 1));
  if (!places.length || places[0] < 0 || places[places.length - 1] >= size) {
    throw proofError("proof-failed", `no paths of leaves of a tree of ${size}`);
  }
  const paths = new Map(places.map((place) => [place, []]));
  let used = 0;
  const visit = (begin, end, within) => {
    if (!within.length) {
      if (used === joined.length) throw proofError("proof-failed", "the joined paths are too short");
      return joined[used++];
    }
    if (end - begin === 1n) return leaves.get(within[0]);
    const split = begin + (1n << BigInt((end - begin - 1n).toString(2).length - 1));
    const [lower, upper] = [[], []];
    for (const place of within) (place < split ? lower : upper).push(place);
    const left = visit(begin, split, lower);
    const right = visit(split, end, upper);
    for (const place of lower) paths.get(place).push(right);
    for (const place of upper) paths.get(place).push(left);
    return nodeHash(left, right);
  };
  visit(0n, BigInt(size), places);
  if (used < joined.length) throw proofError("proof-failed", "the joined paths are too long");
  return paths;
}

function checkHashes(hashes) {
  if (hashes.some((hash) => hash.length !== 32)) {
    throw proofError("proof-failed", "a hash is not 32 bytes long");
  }
}
