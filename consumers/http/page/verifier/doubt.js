// Events signed by a key that was revoked with effect from earlier: ledger/doubt.py.
import { leansOn } from "./lifecycle.js";
import { cut } from "./text.js";

export const COMPROMISED = "key-compromised";

/** Ids of doubted keys among shown records, each with the log indexes between which it signed what
 * is doubted. */
export const doubtsOf = (records) =>
  new Map(
    [...records]
      .filter(([name, value]) => name.startsWith("key/") && value.doubted_from !== undefined)
      .map(([name, { doubted_from: from, revoked }]) => [
        name.slice(4), { from, end: revoked ?? Number.MAX_SAFE_INTEGER },
      ]),
  );

function isDoubted({ index, transition: { key } }, doubts) {
  const span = doubts.get(key);
  return span !== undefined && span.from <= index && index < span.end;
}

/** Ids of events that are doubtful and not settled, each with the index from which on its key is
 * doubted. */
function findDoubtful(steps, known, doubts) {
  const found = new Map();
  for (const step of steps) {
    const { id, key } = step.transition;
    if (isDoubted(step, doubts)) found.set(id, doubts.get(key).from);
  }
  if (!found.size) return found;
  const numbers = new Map(steps.map(({ transition: { id } }, n) => [id, n]));
  const voided = new Set(); // as the history has it
  const sure = new Set(); // where nothing doubtful is heard
  let end = steps.length; // what rewinds leave of it, likewise
  let sureEnd = steps.length;
  for (let ordinal = steps.length - 1; ordinal >= 0; ordinal--) {
    const { event, id, correction, corrects } = steps[ordinal].transition;
    if (event !== "corrected") continue;
    let isSure = ordinal < sureEnd && !sure.has(id) && !found.has(id);
    const stands = ordinal < end && !voided.has(id);
    const counts = correction === "confirm" || ordinal < known;
    const begin = Math.min(numbers.get(corrects) ?? ordinal, ordinal);
    const leaning = leaningOf(steps, ordinal, begin, found);
    if (leaning) {
      found.set(id, found.get(leaning.id));
      isSure = false;
    }
    if (isSure && stands && counts) {
      const after = correction === "rewind" ? ordinal : begin + 1;
      for (let gone = begin; gone < after; gone++) found.delete(steps[gone].transition.id);
    }
    if (correction === "void" && stands) voided.add(corrects);
    if (correction === "void" && isSure) sure.add(corrects);
    if (correction === "rewind") {
      if (ordinal < end) end = begin;
      if (isSure) sureEnd = begin;
    }
  }
  return found;
}

/** The doubtful word of another department that alone let a rewind pass, where there is one. */
function leaningOf(steps, ordinal, begin, found) {
  const t = steps[ordinal].transition;
  if (t.correction !== "rewind") return undefined;
  const said = steps.slice(begin, ordinal).map(({ transition }) => transition);
  const doubtful = said.filter(({ id }) => found.has(id));
  const others = doubtful.filter(({ by, correction }) =>
    by !== t.by && (correction === "void" || correction === "rewind"));
  if (!others.length) return undefined;
  const history = steps.slice(0, ordinal).map(({ transition }) => transition);
  const leant = new Set(leansOn(history, t).map(({ id }) => id));
  return doubtful.find(({ id }) => leant.has(id));
}

/** Ordinals of the later corrections that may settle what is doubtful among deciding events. */
export function neededCorrections(steps, known, deciding, doubts) {
  const any = steps.some((step) => deciding.includes(step.transition.id) && isDoubted(step, doubts));
  if (!any) return [];
  return [...steps.keys()].filter((n) => n >= known && steps[n].transition.event === "corrected");
}

/** The finding, or that it cannot be decided because an event that it rests on is doubtful. */
export function settle(finding, steps, known, doubts) {
  const doubtful = findDoubtful(steps, known, doubts);
  const first = steps.find(({ transition: { id } }) =>
    doubtful.has(id) && finding.deciding.includes(id));
  if (!first) return finding;
  const { id, key, by } = first.transition;
  const why = `event ${id} was signed with key ${cut(key, 0, 16)}…, which ${by} declared ` +
    `compromised from log index ${doubtful.get(id)} on, and ${by} has neither confirmed nor ` +
    "corrected it";
  return { ...finding, answer: "cannot-decide", reason: COMPROMISED, since: null, knownSince: null, why };
}
