// What the history in proven evidence says about its question, if enough is shown: ledger/finding.py.
import { COMPROMISED, neededCorrections, settle } from "./doubt.js";
import { attempt } from "./errors.js";
import { answer } from "./lifecycle.js";
import { options } from "./question.js";
import { repr } from "./text.js";
import { formatInstant, parseMoment } from "./times.js";

export const INCOMPLETE = "evidence-incomplete";
export const UNCLEAR = "known-at-unclear";

const cannotDecide = (reason, why) => ({ answer: "cannot-decide", reason, why });

/** What the part of the history known at the question's `knownAt` says about the instant `at`. */
export function find(evidence, bundles, ledgerTime, at, doubts) {
  const steps = evidence.history;
  const { knownAt, version } = evidence.question;
  const history = steps.map(({ transition }) => transition);
  const shown = new Set(evidence.events.map(({ ordinal }) => ordinal));
  let count = steps.length;
  if (!count) return { answer: "not-found", reason: "not-found" };
  if (knownAt !== null && knownAt < ledgerTime) {
    const limit = knownBefore(evidence, bundles, knownAt);
    if (limit === null) return incomplete("what the ledger knew then", evidence);
    count = steps.filter(({ index }) => index < limit).length;
    if (count < steps.length) {
      if (!shown.has(count)) return incomplete("the first event that came after", evidence);
      const time = parseMoment(bundles.get(steps[count].index).time);
      if (time <= knownAt) return unclear(time, knownAt);
    }
    if (count === 0) {
      const why = `the ledger learned of this certificate after ${formatInstant(knownAt)}`;
      return { answer: "not-found", reason: "not-known-then", why };
    }
  }
  const finding = attempt(
    () => answer(history.slice(0, count), at, version),
    (error) => cannotDecide(INCOMPLETE, error.message),
  );
  if (!finding.deciding) return finding;
  const settled = settle(finding, steps, count, doubts);
  const needed = [count - 1];
  if (settled.reason !== COMPROMISED) { // else it cannot be decided, whatever else is not shown
    needed.push(...neededCorrections(steps, count, finding.deciding, doubts));
    history.slice(0, count).forEach(({ id }, n) => {
      if (finding.deciding.includes(id)) needed.push(n);
    });
  }
  if (!needed.every((ordinal) => shown.has(ordinal))) {
    return incomplete("the events that decide this question", evidence);
  }
  const deciding = history.flatMap((t, ordinal) =>
    finding.deciding.includes(t.id)
      ? [{
          id: t.id,
          event: t.event,
          by: t.by,
          time: t.time,
          reason: t.reason ?? null,
          index: steps[ordinal].index,
        }]
      : []);
  return { ...settled, deciding, askedVersion: version };
}

/** The log index below which all was known at `knownAt`, null when the file does not show it. */
function knownBefore(evidence, bundles, knownAt) {
  const then = evidence.statusThen;
  if (then !== null && parseMoment(then.value.time) <= knownAt) return then.index;
  const first = bundles.get(evidence.history[0].index);
  return first && parseMoment(first.time) > knownAt ? 0 : null;
}

const unclear = (time, knownAt) =>
  cannotDecide(
    UNCLEAR,
    `an event was logged at ${formatInstant(time)}, and the ledger's state shown for ` +
      `${formatInstant(knownAt)} did not hold it yet: ask for a moment a little later`,
  );

function incomplete(what, evidence) {
  const number = repr(evidence.certificate.number);
  const words = `certledger evidence ${number} ${options(evidence.question)}`.trim();
  return cannotDecide(INCOMPLETE, `the file does not show ${what}: ask again with \`${words}\``);
}
