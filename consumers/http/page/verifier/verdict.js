// From named checks and a finding to one of four answers: ledger/verdict.py, its tables from there.
import {
  CHECK_NAMES, CODES, NEEDED, OVER_REASONS, OVER_REASONS_OF_A_VERSION, PROVING, STATED,
} from "./tables.js";
import { formatInstant } from "./times.js";

export const REFUSED = "evidence-refused";

export const check = (name, result, why, values = {}, code = REFUSED) => ({
  name, result, why, values, code,
});

/** The checks that must have passed for a finding to become the answer. */
function restsOn({ answer, reason, askedVersion }) {
  const over = (askedVersion ?? null) === null ? OVER_REASONS : OVER_REASONS_OF_A_VERSION;
  if (answer === "not-valid" && over.includes(reason)) return NEEDED.over;
  return NEEDED[reason === "not-known-then" ? reason : answer];
}

/** {answer, reason, why} that the checks leave of a finding (or null); of one that is `stated` on a
 * sheet, which shows no event, those of STATED alone. */
export function decide(checks, found, stated = false) {
  const byName = Object.fromEntries(checks.map((each) => [each.name, each]));
  const cannot = ({ code, name, why }) => ({
    answer: "cannot-decide", reason: code, why: `${name}: ${why}`,
  });
  const failed = PROVING.find((name) => byName[name].result === "failed");
  if (failed) return cannot({ ...byName[failed], code: REFUSED });
  if (byName.checkpoint.result === "not-checked") return cannot(byName.checkpoint);
  if (found === null) return { answer: "cannot-decide", reason: REFUSED, why: CODES[REFUSED] };
  const needed = restsOn(found).filter((name) => !stated || STATED.includes(name));
  const lacking = needed.find((name) => byName[name].result !== "passed");
  if (lacking) return cannot(byName[lacking]);
  return { answer: found.answer, reason: found.reason, why: found.why ?? "" };
}

/** The first check that a refused file fails. */
export const refusedBy = (checks) =>
  checks.find(({ name, result }) => result === "failed" && PROVING.includes(name));

const instant = (moment) => ((moment ?? null) === null ? null : formatInstant(moment));

/** The answer as the command line and the API print it, member for member. */
export function members({ answer, reason, why = "", checks, ...rest }) {
  const found = rest.found ?? null;
  const question = rest.question ?? null;
  const turn = found !== null && answer === found.answer ? (found.since ?? null) : null;
  const value = {
    answer,
    reason,
    why,
    since: reason === "not-yet-valid" ? null : instant(turn),
    certificate: certificate(rest.certificate ?? null, reason === REFUSED ? null : found),
    checks: checks.map(({ name, result, why: said, values }) => ({ name, result, why: said, values })),
    tree_size: rest.treeSize ?? null,
    ledger_time: instant(rest.ledgerTime),
    at: instant(question?.at),
    known_at: instant(question?.knownAt),
  };
  if (rest.notes?.length) value.notes = rest.notes;
  if (rest.fileQuestion) value.file_question = rest.fileQuestion;
  if (rest.issuerFreshness) value.issuer_freshness = rest.issuerFreshness;
  if (Object.keys(rest.names ?? {}).length) value.names = rest.names;
  if (found !== null && reason !== REFUSED) {
    value.deciding = found.deciding ?? [];
    if ((found.knownSince ?? null) !== null) value.known_since = instant(found.knownSince);
  }
  return value;
}

const certificate = (parts, found) =>
  parts && {
    type: parts.type,
    issuer: parts.issuer,
    number: parts.number,
    version: found?.version ?? null,
    valid_from: found?.validFrom ?? null,
    valid_until: found?.validUntil ?? null,
  };

/** An answer in which nothing was checked, for one reason. */
export const undecided = (reason, why, what, more = {}) => ({
  answer: "cannot-decide",
  reason,
  why,
  checks: CHECK_NAMES.map((name) => check(name, "not-checked", what)),
  ...more,
});
