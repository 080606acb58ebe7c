// What is asked: moments (BigInt, or null for now and for all that is known): ledger/question.py.
import { formatInstant } from "./times.js";

export const ask = (askedAt, at = null, knownAt = null, version = null) => ({
  askedAt, at, knownAt, version,
});

/** Whether two questions ask the same, whenever that was. */
export const asksSame = (one, other) =>
  one.at === other.at && one.knownAt === other.knownAt && one.version === other.version;

/** The command line options that ask this. */
export function options({ at, knownAt, version }) {
  const words = [];
  if (at !== null) words.push(`--at ${formatInstant(at)}`);
  if (knownAt !== null) words.push(`--known-at ${formatInstant(knownAt)}`);
  if (version !== null) words.push(`--version ${version}`);
  return words.join(" ");
}
