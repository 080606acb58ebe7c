// The life cycle of a certificate, links, records and what held at a moment: ledger/lifecycle.py.
// The table of states is data, made from Python (tables.js).
import { bigEndian, concat, hex, sha256, utf8 } from "./bytes.js";
import { has, isObject, print } from "./canonical.js";
import { LedgerError, malformed, proofError, refused } from "./errors.js";
import {
  CORRECTIONS, ENDS, LINK_TAG, MAX_CORRECTABLE, NEEDED_OF_TRANSITION, RECORD_TAG,
  REVOCATION_KINDS, STATE_ACTS, TABLE, TRANSITION_MEMBERS, VERSION_ACTS,
} from "./tables.js";
import { byCodePoints } from "./text.js";
import { dayEnd, dayStart, parseMoment } from "./times.js";

const ENDED = ENDS.map((kind) => STATE_ACTS[kind]);
const IDENTICAL = ["answer", "reason", "since", "version", "validFrom", "validUntil", "responsible"];

const bad = (message) => malformed("malformed-evidence", message);
const greater = (one, other) => (one > other ? one : other);
const orNull = (value) => value ?? null;

/** The transition in parsed JSON members: an object of these members. */
export function parseTransition(members) {
  if (!isObject(members) || Object.keys(members).some((m) => !TRANSITION_MEMBERS.includes(m))) {
    throw bad("not a transition");
  }
  if (NEEDED_OF_TRANSITION.some((name) => !has(members, name))) {
    throw bad("a transition lacks a member");
  }
  for (const [name, value] of Object.entries(members)) {
    if (typeof value !== (name === "version" ? "number" : "string")) {
      throw bad(`transition member ${name}`);
    }
  }
  const { event, version } = members;
  if (event !== "corrected" && !TABLE.some(([, kind]) => kind === event)) {
    throw bad("an unknown kind of transition");
  }
  if ((event === "revoked") !== REVOCATION_KINDS.includes(members.revocation)) {
    throw bad("revoked, and only that, has a revocation kind");
  }
  const corrects = has(members, "corrects") && CORRECTIONS.includes(members.correction);
  if ((event === "corrected") !== corrects) {
    throw bad("corrected, and only that, says what it corrects");
  }
  if (members.valid_from === "open" || version < 0) {
    throw bad("a transition's valid_from or version");
  }
  parseMoment(members.time);
  for (const day of [members.valid_from, members.valid_until]) {
    if (day !== undefined && day !== "unknown" && day !== "open") dayStart(day);
  }
  return members;
}

/** The transition that an event gives. */
export function makeTransition(event, by, key, version) {
  const { data } = event;
  const members = {
    event: event.kind,
    id: event.id,
    by,
    key,
    time: event.time,
    version,
    valid_from: data.valid_from,
    valid_until: data.valid_until,
    reason: data.reason_code,
    revocation: data.revocation_kind,
    corrects: data.corrects,
    correction: data.correction,
    transfer_to: data.transfer_to,
  };
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

/** The instant from which a transition says it has effect; null when `unknown`. */
function startOf(t) {
  if (!has(t, "valid_from")) return parseMoment(t.time);
  return t.valid_from === "unknown" ? null : dayStart(t.valid_from);
}

/** The next link of a certificate's history; the first `previous` is its map key. */
export const link = (previous, index, position, lineHash, transition) =>
  sha256(utf8(LINK_TAG), previous, placeOf(index, position), lineHash, utf8(print(transition)));

const placeOf = (index, position) => concat(bigEndian(index, 8), bigEndian(position, 4));

/** A standing before any event; what says nothing is null. */
export const nowhere = () => ({
  state: "none",
  version: 0,
  highest: 0,
  responsible: "",
  valid_from: null,
  valid_until: null,
  since: "",
  reason: null,
  revocation: null,
  suspended_until: null,
  transfer_to: null,
  begin: null,
  count: 0,
});

/** What the status map keeps of a certificate with this standing and last link. */
export function recordHash(standing, last) {
  const said = Object.entries(standing).filter(([, value]) => value !== null);
  const record = print(Object.fromEntries([...said, ["link", hex(last)]]));
  return sha256(utf8(RECORD_TAG), utf8(record));
}

/** The standing after `t`, a transition other than `corrected`. */
export function step(standing, t) {
  const kind = t.event;
  const start = startOf(t);
  let before = standing.state;
  if (before === "suspended" && suspensionOver(standing, start)) before = "valid";
  const waits = hasNotBegun(standing, t, start);
  if (waits && (kind === "suspended" || kind === "revoked")) before = "valid";
  if (waits && kind === "transferred-in") {
    throw refused("dates-reversed", "a transfer does not arrive before it begins");
  }
  const row = TABLE.find(([state, act]) => state === before && act === kind);
  if (!row) {
    if (before === "none" || before === "void") {
      throw refused("not-issued", `${kind} for a certificate that was never issued`);
    }
    if (kind === "issued") throw refused("already-issued");
    throw refused("invalid-transition", `${kind} is not possible when ${before}`);
  }
  const after = row[2];
  if (kind === "suspended") {
    if (start === null) throw refused("invalid-transition", "a suspension needs its first day");
    checkDates(start, orNull(t.valid_until));
  }
  if (waits && standing.state === "revoked" && kind === "suspended") {
    return { ...standing, count: standing.count + 1 }; // until then; the revocation stays
  }
  // Something new holds; a suspension may follow one that ended by itself.
  const same = before === standing.state && after === standing.state;
  const begins = !same || kind === "issued" || kind === "renewed";
  const next = { ...standing, state: after, count: standing.count + 1 };
  if (VERSION_ACTS.includes(kind)) {
    next.version = t.version;
    next.highest = Math.max(standing.highest, t.version);
    if (kind !== "amended" || has(t, "valid_from")) next.valid_from = orNull(t.valid_from);
    if (kind !== "amended" || has(t, "valid_until")) next.valid_until = orNull(t.valid_until);
    if (next.valid_until === "open") next.valid_until = null;
    checkDates(beginOf(standing, t, start), next.valid_until);
  }
  if (kind === "issued" || kind === "transferred-in") next.responsible = t.by;
  if (begins) {
    next.since = t.time;
    next.reason = orNull(t.reason);
    next.revocation = orNull(t.revocation);
    next.suspended_until = kind === "suspended" ? orNull(t.valid_until) : null;
    next.transfer_to = orNull(t.transfer_to);
    next.begin = ENDS.includes(kind) && t.valid_from !== "unknown" ? orNull(t.valid_from) : null;
  }
  return next;
}

/** Whether `t` begins before the end of validity that the standing tells of. */
function hasNotBegun(standing, t, start) {
  if (!ENDED.includes(standing.state)) return false;
  const own = start === null ? parseMoment(t.time) : start;
  const begin = standing.begin === null ? parseMoment(standing.since) : dayStart(standing.begin);
  return own < begin;
}

function suspensionOver(standing, start) {
  const end = endOf(standing.suspended_until);
  return end !== null && start !== null && end <= start;
}

/** The first instant of the version that `t` makes, null when nobody knows it. */
function beginOf(standing, t, start) {
  const stated = standing.valid_from;
  const first = stated === null || stated === "unknown" ? null : dayStart(stated);
  if (has(t, "valid_from") || t.event === "issued" || (first === null && t.event === "renewed")) {
    return start;
  }
  return t.event === "amended" || first === null ? first : greater(first, start || first);
}

/** The instant at which a last day is over; null when there is none, or nobody knows it. */
const endOf = (until) =>
  until === null || until === undefined || until === "unknown" || until === "open"
    ? null
    : dayEnd(until);

function checkDates(begin, until) {
  const end = endOf(until);
  if (begin !== null && end !== null && end <= begin) {
    throw refused("dates-reversed", `the last day ${until} is over before the first begins`);
  }
}

/** The version a certificate has after an event of this kind. */
export const nextVersion = (standing, kind) =>
  VERSION_ACTS.includes(kind) ? standing.highest + 1 : standing.version;

/** The numbers of the events that one passes on the way back through a history: a rewind leads to
 * what came before the event that it names. Ascending; rewinds passed are among them. */
function passed(history) {
  const numbers = new Map(history.map(({ id }, n) => [id, n]));
  const found = [];
  for (let n = history.length - 1; n >= 0; n--) {
    found.push(n);
    const { correction, corrects } = history[n];
    if (correction === "rewind") n = Math.min(numbers.get(corrects) ?? n, n);
  }
  return found.reverse();
}

/** The events of a history that no rewind leaves out, without the rewinds. */
const remaining = (history) =>
  passed(history).map((n) => history[n]).filter(({ correction }) => correction !== "rewind");

/** The history as corrected: what was voided or rewound left out, restated events with their new
 * words. */
export function effective(whole) {
  const history = remaining(whole);
  const voided = voidedIds(history);
  const out = new Map();
  for (const t of history) if (t.event !== "corrected" && !voided.has(t.id)) out.set(t.id, t);
  for (const t of history) {
    const target = out.get(t.corrects);
    if (t.event === "corrected" && t.correction === "restate" && !voided.has(t.id) && target) {
      const days = {};
      for (const name of ["valid_from", "valid_until"]) {
        if (t[name] || has(target, name)) days[name] = t[name] || target[name];
      }
      out.set(target.id, { ...target, ...days });
    }
  }
  return [...out.values()];
}

/** The ids of the events, corrections among them, that stand no more. */
export function voidedIds(history) {
  const voided = new Set();
  for (const t of remaining(history).reverse()) {
    if (t.event === "corrected" && t.correction === "void" && !voided.has(t.id)) {
      voided.add(t.corrects);
    }
  }
  return voided;
}

function fold(history) {
  let standing = nowhere();
  for (const t of effective(history)) standing = step(standing, t);
  const highest = Math.max(0, ...history.map(({ version }) => version));
  if (standing.state === "none" && history.length) {
    const since = history[history.length - 1].time;
    standing = { ...standing, state: "void", since, responsible: history[0].by };
  }
  return { ...standing, highest, count: history.length };
}

/** The standing after the correction `t`; `history` is the whole history before it. */
export function correct(history, t) {
  const target = history.find(({ id }) => id === t.corrects);
  if (!target) throw refused("unknown-event", `no event ${t.corrects} in this history`);
  if (t.correction === "rewind") return fold([...history, t]);
  if (target.event === "corrected" && t.correction === "restate") {
    throw refused("unknown-event", "a correction can be voided or confirmed, not restated");
  }
  const stands = remaining(history);
  if (t.correction !== "confirm" && !stands.includes(target)) {
    throw refused("unknown-event", `a rewind left event ${t.corrects} out, or it is one`);
  }
  if (stands.length > MAX_CORRECTABLE) {
    const found = `${stands.length} events, at most ${MAX_CORRECTABLE}`;
    throw refused("history-too-long", found);
  }
  if (has(t, "valid_until") && ![...VERSION_ACTS, "suspended"].includes(target.event)) {
    throw refused("correction-breaks-history", `${target.event} states no last day`);
  }
  try {
    return fold([...history, t]);
  } catch (error) {
    if (!(error instanceof LedgerError) || error.kind !== "Refused") throw error;
    throw refused("correction-breaks-history", error.message);
  }
}

/** The department whose act the correction `t` is. */
export function corrector(history, t, responsible) {
  const target = history.find(({ id }) => id === t.corrects);
  if (!target) return responsible;
  if (t.correction === "confirm") return target.by;
  const takers = history.filter(({ event }) => event === "issued" || event === "transferred-in");
  const owners = new Set(takers.map(({ by }) => by));
  const named = t.correction === "rewind" ? undone(history, history.indexOf(target)) : [target];
  const whose = named.map(({ by }) => (owners.has(by) ? responsible : by));
  if (!whose.length) whose.push(responsible);
  return whose.filter((by) => by !== t.by).sort(byCodePoints)[0] ?? t.by;
}

/** The events that stand and that a rewind to before event number `at` leaves out. */
function undone(history, at) {
  const before = new Set(passed(history.slice(0, at)));
  const gone = passed(history).filter((n) => !before.has(n)).map((n) => history[n]);
  const numbers = new Map(history.map(({ id }, n) => [id, n]));
  const voided = voidedIds(history);
  const tookNoMore = ({ correction, corrects }) =>
    (correction === "void" || correction === "rewind") && numbers.get(corrects) >= at;
  return gone.filter((t) => !voided.has(t.id) && !tookNoMore(t));
}

/** The voids and rewinds of other departments without which the rewind `t` were not its
 * department's. */
export function leansOn(history, t) {
  const named = history.findIndex(({ id }) => id === t.corrects);
  const at = named < 0 ? history.length : named;
  if (history.slice(at).every(({ by }) => by === t.by)) return [];
  const gone = passed(history).filter((n) => n >= at).map((n) => history[n]);
  const takers = history.filter(({ event }) => event === "issued" || event === "transferred-in");
  const owners = takers.map(({ by }) => by);
  const own = new Set([t.by, ...undone(history, at).map(({ by }) => by)]);
  if (owners.includes(t.by)) owners.forEach((by) => own.add(by));
  return gone.filter(({ correction, by }) =>
    (correction === "void" || correction === "rewind") && !own.has(by));
}

/** The events that no rewind leaves out, and the rewinds passed with what each names and what
 * others said that let it pass. */
function saidIn(history) {
  const numbers = passed(history);
  const rewinds = numbers.filter((n) => history[n].correction === "rewind");
  const named = new Set(rewinds.map((n) => history[n].corrects));
  for (const n of rewinds) {
    for (const { id } of leansOn(history.slice(0, n), history[n])) named.add(id);
  }
  const shown = new Set(numbers);
  return history.filter(({ id }, n) => shown.has(n) || named.has(id));
}

// --- answers ---

/** What the known part of a history says about the instant `at`, of one version or whichever. */
export function answer(history, at, version) {
  const acts = actsOf(effective(history));
  if (!acts.length && history.length) return allVoided(history, saidIn(history));
  if (!acts.some(({ t }) => VERSION_ACTS.includes(t.event))) {
    throw proofError("evidence-refused", "the history is no possible life cycle");
  }
  let found = judge(acts, at, version);
  const hidden = acts.filter((act) => act.isStartUnknown && at < act.start);
  if (!isDecided(acts, hidden, found, at, version)) {
    found = {
      ...found,
      answer: "cannot-decide",
      reason: "start-unknown",
      since: null,
      knownSince: hidden.map((act) => act.start).reduce((a, b) => (a < b ? a : b)),
      deciding: [...found.deciding, ...hidden.map(({ t }) => t.id)],
    };
  }
  const left = new Set(acts.map(({ t }) => t.id));
  const corrected = saidIn(history).filter(({ event, id }) => event === "corrected" || !left.has(id));
  const deciding = new Set([...found.deciding, ...corrected.map(({ id }) => id)]);
  return { ...found, deciding: [...deciding] };
}

/** Whether `found` holds whichever of the hidden acts had begun; each is tried alone. */
function isDecided(acts, hidden, found, at, version) {
  if (found.answer === "not-valid" && hidden.every(({ t }) => ENDS.includes(t.event))) return true;
  return hidden.every((act) => {
    const begun = acts.map((each) => (each === act ? { ...each, start: at } : each));
    const other = judge(begun, at, version);
    return IDENTICAL.every((name) => other[name] === found[name]);
  });
}

function allVoided(history, said) {
  const last = history[history.length - 1];
  return {
    answer: "not-valid",
    reason: "voided",
    since: parseMoment(last.time),
    version: 0,
    validFrom: null,
    validUntil: null,
    responsible: last.by,
    deciding: said.map(({ id }) => id),
    knownSince: null,
  };
}

/** Transitions with the instant from which each has effect, and its days as the version has them. */
function actsOf(history) {
  const acts = [];
  let version = null;
  for (const t of history) {
    const stated = startOf(t);
    let start = stated === null ? parseMoment(t.time) : stated;
    let first = t.valid_from || t.time;
    let until = orNull(t.valid_until);
    let source = null;
    if (VERSION_ACTS.includes(t.event) && version !== null && !has(t, "valid_from")) {
      if (t.event === "amended" || start < version.start) first = version.first || t.time;
      start = greater(start, version.start); // no change brings the first day forward unsaid
      source = version;
    }
    if (t.event === "amended" && until === null && version !== null) {
      until = version.until;
      source = version;
    }
    const act = { t, start, first, until, isStartUnknown: stated === null, source };
    if (VERSION_ACTS.includes(t.event)) version = act;
    acts.push(act);
  }
  return acts;
}

function* withSources(act) {
  for (let source = act; source !== null; source = source.source) yield source;
}

/** {read, state, since}: acts that were read, the one that decides last, and what it says. */
function stateAt(acts, at) {
  const read = acts.filter(({ t }) => t.event === "revoked");
  const revoked = read.filter((act) => act.start <= at);
  if (revoked.length) {
    const act = revoked[revoked.length - 1];
    return { read: [...read, act], state: "revoked", since: act.isStartUnknown ? null : act.start };
  }
  let lifted = null;
  for (const act of [...acts].reverse()) {
    if (!has(STATE_ACTS, act.t.event)) continue;
    read.push(act);
    if (act.start > at) continue;
    const end = act.t.event === "suspended" ? endOf(act.until) : null;
    if (end !== null && end <= at) {
      lifted = lifted === null ? end : greater(lifted, end);
      continue;
    }
    const state = STATE_ACTS[act.t.event];
    let since = act.isStartUnknown ? null : act.start;
    if (state === "valid" && lifted !== null) {
      since = since === null ? lifted : greater(since, lifted);
    }
    return { read, state, since };
  }
  return { read, state: "none", since: null };
}

function judge(acts, at, version) {
  const versions = acts.filter(({ t }) => VERSION_ACTS.includes(t.event));
  const begun = versions.filter((act) => act.start <= at);
  const current = begun.length ? begun[begun.length - 1] : null;
  const { read, state, since } = stateAt(acts, at);
  const decides = state === "none" ? null : read[read.length - 1];
  for (const act of [...versions].reverse()) {
    if (act === current) break;
    read.push(act);
  }
  const owners = acts.filter(({ t }) => t.event === "issued" || t.event === "transferred-in");
  const held = owners.filter((act) => act.start <= at);
  const owner = held[held.length - 1] ?? owners[0] ?? versions[0];
  if (owner.t.event === "transferred-in") read.push(owner); // who issued stands in the map key

  const finding = (act, said, reason, when, ...also) => {
    const deciding = [act, ...also, ...read].flatMap((each) => [...withSources(each)]);
    return {
      answer: said,
      reason,
      since: when,
      version: act.t.version,
      validFrom: act.first,
      validUntil: act.until === "open" ? null : act.until,
      responsible: owner.t.by,
      deciding: [...new Set(deciding.map(({ t }) => t.id))],
      knownSince: null,
    };
  };

  const first = versions.reduce((a, b) => (b.start < a.start ? b : a));
  if (version !== null && (current === null || version !== current.t.version)) {
    const asked = versions.find(({ t }) => t.version === version);
    if (!asked) return finding(current ?? first, "not-valid", "no-such-version", null);
    if (current !== null && current.t.version > version) {
      return finding(asked, "not-valid", "superseded", current.start, current);
    }
    return finding(asked, "not-valid", "not-yet-valid", asked.start);
  }
  if (state === "revoked") {
    const reason = `revoked-${decides.t.revocation}`;
    return finding(current ?? first, "not-valid", reason, since);
  }
  if (current === null) return finding(first, "not-valid", "not-yet-valid", first.start);
  let end = endOf(current.until);
  if (end !== null && end <= at) {
    if (state === "expired" && since !== null && since < end) end = since;
    return finding(current, "not-valid", "expired", end);
  }
  if (["expired", "suspended", "transferred"].includes(state)) {
    return finding(current, "not-valid", state, since);
  }
  if (current.until === "unknown" && at > parseMoment(current.t.time)) {
    return finding(current, "cannot-decide", "end-unknown", null);
  }
  return finding(current, "valid", "in-force", since);
}
