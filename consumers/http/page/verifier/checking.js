// The seven named checks of an evidence file, then what its history says: ledger/checking.py.
import { concat, decodeUtf8, equal, fromHex, hex, utf8 } from "./bytes.js";
import { bundleKeyName, parseBundleNote } from "./bundle.js";
import { certificatesMap, codeAt, makeEntry, parseEntry } from "./entry.js";
import { doubtsOf } from "./doubt.js";
import { attempt, LedgerError, proofError, unavailable } from "./errors.js";
import { parseEvent } from "./event.js";
import { find, INCOMPLETE, UNCLEAR } from "./finding.js";
import { laneOf, parseIdentifier } from "./identity.js";
import * as lifecycle from "./lifecycle.js";
import { checkInclusion, leafHash } from "./merkle.js";
import { parseCheckpoint, parseNote, parseVkey } from "./note.js";
import { granted, keyActive, lanesAt, parseRecord, treePlace } from "./registry.js";
import { checkMembership } from "./statusmap.js";
import { CHECK_NAMES } from "./tables.js";
import { byCodePoints, cut, shown as quoted } from "./text.js";
import { formatInstant, parseMoment, SECOND } from "./times.js";
import { check, decide } from "./verdict.js";
import { checkLogged, explainKeys, Vouching } from "./vouching.js";

const STALE = "checkpoint-stale";
const SILENT = "issuer-silent";
const DISAGREEING = "witness-times-disagree";
const CLOCK_TOLERANCE = 300n * SECOND;
export const UNCHECKED = "ML-DSA-44: not checked (browser)";

const refuse = (message) => proofError("proof-failed", message);
const refuseCheckpoint = (message) => proofError("checkpoint-refused", message);
export const passed = (name, why, values = {}) => check(name, "passed", why, values);
const withoutEvents = (name) => check(name, "not-checked", "there is no event to check");
const equalValues = (one, other) =>
  Object.keys(one).length === Object.keys(other).length &&
  Object.keys(one).every((name) => one[name] === other[name]);

/** One look at one parsed evidence file under a trust file. */
export class Examination {
  #cache = new Map();

  constructor(evidence, trust, now, reliedAt = null) {
    this.evidence = evidence;
    this.trust = trust;
    this.reference = reliedAt ?? now;
    this.at = evidence.question.at ?? this.reference;
    this.history = evidence.history.map(({ transition }) => transition);
  }

  /** All checks, then what they leave of the finding. */
  async answer() {
    const { evidence } = this;
    const checks = await judge({
      "event-signature": () => this.#eventSignature(),
      authority: () => this.#authority(),
      inclusion: () => this.#inclusion(),
      checkpoint: () =>
        judgeCheckpoint(evidence.origin, this.checkpoint, evidence, this.trust),
      status: () => this.#status(),
      freshness: () => this.#freshness(),
    });
    const counted = checks.every(({ name, result }) => name === "freshness" || result !== "failed");
    const trusted = checks.some(({ name, result }) => name === "checkpoint" && result === "passed");
    const found = counted && trusted
      ? find(evidence, this.bundles, this.ledgerTime, this.at, doubtsOf(this.records))
      : null;
    return {
      ...decide(checks, found),
      checks,
      certificate: evidence.certificate,
      found,
      question: { ...evidence.question, at: this.at },
      ...(found && {
        treeSize: Number(this.checkpoint.size),
        ledgerTime: this.ledgerTime,
        names: this.#names(found),
        issuerFreshness: this.#issuerFreshness(),
      }),
    };
  }

  // --- parts of the file, parsed once; they throw where it is bad ---

  #once(name, make) {
    if (!this.#cache.has(name)) this.#cache.set(name, make());
    return this.#cache.get(name);
  }

  /** The checkpoint, whoever signed it: the other checks say what they find under it. */
  get checkpoint() {
    return this.#once("checkpoint", () => parseCheckpoint(this.evidence.checkpoint));
  }

  get statusEntry() {
    return this.#once("status", () => readStatusEntry(this.evidence.status, this.checkpoint));
  }

  get ledgerTime() {
    return parseMoment(this.statusEntry.time);
  }

  /** The shown entries by log index. */
  get entries() {
    return this.#once("entries", () => {
      const told = this.evidence.entries;
      return new Map(told.map(({ index, value, data }) => [index, parseEntry(value, data.length)]));
    });
  }

  /** Those of them that are bundles'. */
  get bundles() {
    return this.#once("bundles", () =>
      new Map([...this.entries].filter(([, { kind }]) => kind === "bundle")));
  }

  /** The status entry known at `knownAt`, null where none is shown. */
  get then() {
    const then = this.evidence.statusThen;
    return this.#once("then", () => then && parseEntry(then.value, then.data.length));
  }

  /** The shown registry records by name. */
  get records() {
    return this.#once("records", () => {
      const parsed = this.evidence.records.map(({ value, data }) => parseRecord(value, data.length));
      return new Map(parsed.map(({ name, value }) => [name, value]));
    });
  }

  /** The standing before each transition and after the last one, by the rules of admission. */
  get standings() {
    return this.#once("standings", () => {
      let standing = lifecycle.nowhere();
      const standings = [standing];
      const ids = new Set();
      this.history.forEach((t, ordinal) => {
        const id = cut(t.id, 0, 32);
        if (ids.has(t.id)) throw refuse(`two events have the id ${id}`);
        ids.add(t.id);
        let version = lifecycle.nextVersion(standing, t.event);
        if (t.event === "issued" && t.by !== this.evidence.certificate.issuer) {
          throw refuse(`${cut(t.by, 0, 63)} cannot issue in another's name`);
        }
        if (t.event === "transferred-in" && t.by !== standing.transfer_to) {
          throw refuse(`the transfer was not to ${cut(t.by, 0, 63)}`);
        }
        if (t.event === "corrected") {
          standing = lifecycle.correct(this.history.slice(0, ordinal), t);
          version = standing.version;
        } else {
          standing = lifecycle.step(standing, t);
        }
        if (t.version !== version) {
          throw refuse(`event ${id} gives version ${t.version}, not ${version}`);
        }
        standings.push(standing);
      });
      return standings;
    });
  }

  get last() {
    return this.standings[this.standings.length - 1];
  }

  /** The issuer's time zone as the file says it; null where it does not. */
  get zone() {
    const name = `department/${this.evidence.certificate.issuer}`;
    return attempt(() => this.records.get(name)?.time_zone ?? null, () => null);
  }

  #record(name) {
    const record = this.records.get(name);
    if (!record) throw refuse(`the registry's record ${quoted(name, 100)} is not shown`);
    return record;
  }

  #step({ ordinal }) {
    return this.evidence.history[ordinal];
  }

  #bundle(index) {
    const bundle = this.bundles.get(index);
    if (!bundle) throw refuse(`no bundle is shown at entry ${index}`);
    return bundle;
  }

  #note(index) {
    return this.#once(`note ${index}`, () => parseBundleNote(this.#bundle(index).note));
  }

  // --- the checks ---

  async #eventSignature() {
    const { events } = this.evidence;
    if (!this.history.length) return withoutEvents("event-signature");
    if (!events.length) throw refuse("no event is shown");
    const signed = new Set();
    for (const event of events) {
      const step = this.#step(event);
      const { note, header } = this.#note(step.index);
      this.#checkEvent(event, step, header);
      const id = step.transition.key;
      const key = parseVkey(this.#record(`key/${id}`).vkey);
      if (signed.has(`${step.index} ${id}`)) continue;
      if (key.id !== id) throw refuse("a key's record has another key's name");
      if (key.name !== bundleKeyName(header.origin, header.department)) {
        throw refuse(`${quoted(key.name, 120)} does not sign these bundles`);
      }
      await note.checkSignedBy(key);
      signed.add(`${step.index} ${id}`);
    }
    const why = `${events.length} of ${this.history.length} events shown, each in a bundle ` +
      "that its department signed";
    return passed("event-signature", why, {
      events: events.map((event) => {
        const { index, position, transition } = this.#step(event);
        const bundle = decodeUtf8(this.#note(index).note.text).split("\n")[0];
        return { id: transition.id, bundle, position, key: transition.key };
      }),
    });
  }

  #checkEvent(event, step, header) {
    const lineHash = leafHash(event.line);
    const item = parseEvent(event.value, event.line.length);
    const t = step.transition;
    if (!equal(item.key, this.evidence.key)) {
      throw refuse(`event ${item.id} is about another certificate`);
    }
    if (!equal(lineHash, step.lineHash)) {
      throw refuse(`the line of event ${event.ordinal} was altered`);
    }
    if (header.origin !== this.evidence.origin) {
      throw refuse(`the bundle was signed for ${quoted(header.origin, 120)}`);
    }
    if (header.department !== t.by) {
      throw refuse(`the bundle is by ${header.department}, not ${t.by}`);
    }
    checkInclusion(lineHash, step.position, header.count, event.path, header.root);
    if (!equalValues(lifecycle.makeTransition(item, t.by, t.key, t.version), t)) {
      throw refuse(`the history says other than event ${item.id}`);
    }
    const identifier = item.data.certificate_identifier;
    if (identifier !== undefined) { // its codes are the registry's of then, not of today
      const { serial, version } = parseIdentifier(identifier);
      if (serial !== item.number || version !== t.version) {
        throw refuse(`the identifier in event ${item.id} is another's`);
      }
    }
  }

  async #authority() {
    const { records, registrySize, certificate, events } = this.evidence;
    checkRecords(records, registrySize, this.statusEntry);
    let why = "there is no event: the records shown are in the registry under this checkpoint";
    if (this.history.length) {
      this.#record(`department/${certificate.issuer}`);
      const type = this.#record(`type/${certificate.type}`);
      for (const event of events) this.#checkAuthority(event.ordinal, this.#step(event), type);
    }
    const signers = events.map((event) => this.#step(event).transition.key);
    const vouching = new Vouching(this.evidence, this.records, this.trust.operator, this.checkpoint);
    const keys = await vouching.trace(signers);
    if (keys.length) why = explainKeys(keys);
    const recoveries = this.#recoveries();
    for (const { announced, department, role, from } of recoveries) {
      why += `; entry ${announced} announced that ${department} gets a ${role} key without the ` +
        `previous one from ${from} on`;
    }
    return passed("authority", why, {
      registry_root: this.statusEntry.registry_root,
      records: [...this.records.keys()].sort(byCodePoints),
      keys,
      ...(recoveries.length && { recoveries }),
    });
  }

  /** The recoveries that are announced for the departments that the answer rests on. */
  #recoveries() {
    const { events, certificate } = this.evidence;
    const acting = events.map((event) => this.#step(event).transition.by);
    const responsible = this.last.responsible || certificate.issuer;
    const names = [...new Set([certificate.issuer, responsible, ...acting])].sort(byCodePoints);
    return names.flatMap((department) => {
      const told = Object.entries(this.records.get(`department/${department}`)?.recovery ?? {});
      return told
        .sort(([one], [other]) => byCodePoints(one, other))
        .map(([role, { announced, from }]) => ({ department, role, announced, from }));
    });
  }

  #checkAuthority(ordinal, { index, transition: t }, type) {
    const key = this.#record(`key/${t.key}`);
    if (key.department !== t.by || key.role !== "bundle") {
      throw refuse(`the key of event ${t.id} is not ${t.by}'s for bundles`);
    }
    if (!keyActive(key, index)) {
      throw refuse(`the key of event ${t.id} was not valid at log index ${index}`);
    }
    const lanes = lanesAt(this.#record(`department/${t.by}`), index);
    if (this.#note(index).header.lane !== laneOf(this.evidence.key, lanes)) {
      throw refuse(`event ${t.id} is on the wrong lane of ${t.by}`);
    }
    const scope = granted(type, t.by, t.event, index);
    if (scope === null) throw refuse(`${t.by} had no right to ${t.event} for this type at ${index}`);
    if (!["issued", "transferred-in"].includes(t.event) && scope !== "any") {
      const owner = this.#owner(ordinal, t);
      if (owner !== t.by) throw refuse(`event ${t.id} was ${owner}'s to make`);
    }
  }

  /** Whose act this is where only one's own is granted. */
  #owner(ordinal, t) {
    const { responsible } = this.standings[ordinal];
    if (t.event !== "corrected") return responsible;
    return lifecycle.corrector(this.history.slice(0, ordinal), t, responsible);
  }

  #inclusion() {
    if (!this.history.length) return withoutEvents("inclusion");
    const { entries, events } = this.evidence;
    for (const entry of entries) checkLogged(entry, this.checkpoint);
    for (const event of events) {
      const { index, position, transition } = this.#step(event);
      const code = codeAt(this.#bundle(index).outcome, position);
      if (code !== "admitted") throw refuse(`event ${transition.id} got outcome ${code}`);
    }
    const why = "the bundles are in the log under the checkpoint, and these events were admitted";
    return passed("inclusion", why, {
      entries: entries.map(({ index, data }) => ({ index, leaf_hash: hex(leafHash(data)) })),
    });
  }

  #status() {
    const status = this.statusEntry;
    const { key, bucket } = this.evidence;
    this.#checkThen();
    this.#checkTimes();
    const record = this.#recordHash();
    const head = certificatesMap(status);
    if (head === null) {
      throw refuse(`the status entry ${this.evidence.status.index} carries no maps`);
    }
    const { k, root } = head;
    try {
      checkMembership(root, "C", k, key, record, bucket);
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      const said = this.history.length ? "the certificate's complete history" : "its absence";
      throw refuse(`the status map does not show ${said}: ${error.message}`);
    }
    const why = this.history.length
      ? "this is the certificate's complete history under this checkpoint"
      : "the ledger holds no such certificate under this checkpoint";
    return passed("status", why, {
      reflects: status.reflects,
      ledger_time: status.time,
      events: this.history.length,
      map_key: hex(key),
      k,
      map_root: hex(root),
    });
  }

  #checkThen() {
    const { statusThen: then, status } = this.evidence;
    const entry = this.then;
    if (then === null) return;
    if (entry.kind !== "status" || entry.reflects !== then.index) {
      throw refuse(`entry ${then.index} is no state of all before it`);
    }
    if (then.index >= status.index) throw refuse("the earlier status entry is not earlier");
    checkLogged(then, this.checkpoint);
  }

  /** Ledger times never decrease: else an entry could deny that a state before it held it. */
  #checkTimes() {
    const { registrations, announcements, statusThen, status } = this.evidence;
    const told = new Map([...this.entries].map(([index, { time }]) => [index, time]));
    for (const { index, time } of [...registrations, ...announcements]) told.set(index, time);
    if (statusThen !== null) told.set(statusThen.index, this.then.time);
    told.set(status.index, this.statusEntry.time);
    const places = [...told.keys()].sort((one, other) => one - other);
    places.forEach((place, i) => {
      if (i && parseMoment(told.get(places[i - 1])) > parseMoment(told.get(place))) {
        throw refuse(`entry ${place} has an earlier ledger time than entry ${places[i - 1]}`);
      }
    });
  }

  /** What the map must hold: the hash of the record folded from all transitions, null for none. */
  #recordHash() {
    const { key, history, status } = this.evidence;
    let link = key;
    let place = [-1, -1];
    for (const { index, position, lineHash, transition } of history) {
      if (index < place[0] || (index === place[0] && position <= place[1])) {
        throw refuse("the history is not in ledger order");
      }
      place = [index, position];
      link = lifecycle.link(link, index, position, lineHash, transition);
    }
    if (place[0] >= status.index) throw refuse("the history goes on behind the status entry");
    return history.length ? lifecycle.recordHash(this.last, link) : null;
  }

  async #freshness() {
    const { at, knownAt } = this.evidence.question;
    const time = attempt(() => this.ledgerTime, () => null);
    if (time === null) {
      const why = "there is no status entry to take the time from";
      return check("freshness", "not-checked", why);
    }
    const disagreeing = await judgeWitnessTimes(this.trust, this.checkpoint, time);
    if (disagreeing) return disagreeing;
    const aboutNow = knownAt !== null ? knownAt > time : at === null || at > time;
    if (knownAt !== null && knownAt > this.reference + CLOCK_TOLERANCE) {
      const why = "nobody knows yet what the ledger will know then";
      return check("freshness", "failed", why, {}, UNCLEAR);
    }
    let age;
    if (aboutNow) {
      age = judgeAge(time, this.reference, this.trust.maxAge);
    } else {
      const known = formatInstant(knownAt && knownAt < time ? knownAt : time);
      const why = `the question is about the past: the answer is what was known at ${known}`;
      age = passed("freshness", why, { ledger_time: formatInstant(time) });
    }
    return age.result === "passed" ? this.#silence(age, this.at < time ? this.at : time) : age;
  }

  /** Whether the issuer's sign of life lets its word count for `moment`. */
  #silence(age, moment) {
    const issuer = this.#issuerFreshness();
    if (issuer === null && !this.history.length && this.#isUnregistered()) return age;
    if (issuer === null) {
      const why = "the responsible department's lane is not shown";
      return check("freshness", "failed", why, age.values, INCOMPLETE);
    }
    const values = { ...age.values, issuer };
    const { department, lane, signed_at: signedAt, silence_limit_seconds: limit } = issuer;
    if (limit === null) {
      const why = `${age.why}; ${department} is silent by nature, it declared no limit`;
      return check("freshness", "passed", why, values);
    }
    if (!signedAt) {
      const why = `${department} has never signed anything on this certificate's lane`;
      return check("freshness", "failed", why, values, SILENT);
    }
    const silent = moment - parseMoment(signedAt);
    if (silent > BigInt(limit) * SECOND) {
      const why = `${department} had been silent on this certificate's lane, ${lane}, for ` +
        `${silent / SECOND} s at ${formatInstant(moment)}; it declared ${limit} s`;
      return check("freshness", "failed", why, values, SILENT);
    }
    return check("freshness", "passed", `${age.why}; ${department} signed at ${signedAt}`, values);
  }

  /** Whether neighbours in the registry, which is ascending, leave no place for the issuer. */
  #isUnregistered() {
    const name = treePlace({ name: `department/${this.evidence.certificate.issuer}` });
    const { records, registrySize } = this.evidence;
    const places = new Map([[-1, ""], [registrySize, "\u{10ffff}"]]);
    for (const { index, value, data } of records) {
      places.set(index, treePlace(parseRecord(value, data.length)));
    }
    return records.length > 0 && [...places].some(([index, before]) =>
      places.has(index + 1) && byCodePoints(before, name) < 0 &&
      byCodePoints(name, places.get(index + 1)) < 0);
  }

  /** The responsible department's last sign of life on this certificate's lane, null when the file
   * lacks it. */
  #issuerFreshness() {
    return attempt(() => {
      const department = this.last.responsible || this.evidence.certificate.issuer;
      const record = this.#record(`department/${department}`);
      const lane = laneOf(this.evidence.key, record.lanes);
      const { signed_at: signedAt } = this.#record(`lane/${department}/${lane}`);
      const silent = signedAt && this.ledgerTime - parseMoment(signedAt);
      return {
        department,
        lane,
        signed_at: signedAt,
        silent_seconds: signedAt ? Number((silent > 0n ? silent : 0n) / SECOND) : null,
        silence_limit_seconds: record.silence_limit_seconds,
      };
    }, () => null);
  }

  #names(found) {
    const names = {};
    const { type, issuer } = this.evidence.certificate;
    for (const [member, name] of [
      ["type", `type/${type}`],
      ["issuer", `department/${issuer}`],
      ["responsible", `department/${found.responsible ?? "None"}`],
    ]) {
      const record = this.records.get(name);
      if (!record) continue;
      names[member] = record.names;
      if (member !== "type") names.contact = record.contact;
    }
    return names;
  }
}

/** The named checks in their order. Under a checkpoint that is not trusted the others are not
 * made. */
export async function judge(examine) {
  const run = async (name) => {
    try {
      return await examine[name]();
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      return check(name, "failed", error.message);
    }
  };
  const checkpoint = await run("checkpoint");
  const checks = [];
  for (const name of CHECK_NAMES) {
    if (name === "checkpoint") checks.push(checkpoint);
    else if (checkpoint.result !== "passed") {
      checks.push(check(name, "not-checked", "the checkpoint is not trusted"));
    } else if (name === "disclosures") {
      checks.push(check(name, "not-checked", "no private facts are shown"));
    } else checks.push(await run(name));
  }
  return checks;
}

/** Check 4, of the signed checkpoint of evidence of the ledger `origin`. */
async function judgeCheckpoint(origin, { note }, evidence, trust) {
  let told;
  try {
    told = await trust.checkCheckpoint(evidence.checkpoint);
    if (!told.signed) throw unavailable("signature-unsupported");
  } catch (error) {
    if (!(error instanceof LedgerError) || error.kind !== "Unavailable") throw error;
    return check("checkpoint", "not-checked", UNCHECKED, {}, error.code);
  }
  const { checkpoint, unchecked } = told;
  const { genesis, status } = evidence;
  if (origin !== checkpoint.origin) {
    throw refuseCheckpoint("evidence and checkpoint name two ledgers");
  }
  if (!equal(genesis.leafHash, trust.genesis)) {
    throw refuseCheckpoint("this is no ledger that began as the trusted one");
  }
  checkInclusion(genesis.leafHash, 0, checkpoint.size, genesis.path, checkpoint.root);
  const until = trust.untilTime(checkpoint.size);
  if (until !== null) {
    const time = parseMoment(readStatusEntry(status, checkpoint).time);
    if (time >= until) {
      throw refuseCheckpoint(`a key for this size was retired before ${formatInstant(time)}`);
    }
  }
  const cosigned = await trust.cosignatures(checkpoint);
  const asks = trust.policies(checkpoint.size).some(({ quorum }) => quorum !== "none");
  let why = "signed as the trust file requires, of the ledger that began with the trusted entry 0" +
    (asks
      ? `, cosigned by the quorum of witnesses it asks for (${cosigned.size} did)`
      : ", which asks for no witnesses");
  const values = {
    origin: checkpoint.origin,
    size: Number(checkpoint.size),
    root: hex(checkpoint.root),
    keys: trust.required(checkpoint.size).map(({ short }) => short),
    witnesses: Object.fromEntries(
      [...cosigned].map(([name, seconds]) => [name, formatInstant(seconds * SECOND)]),
    ),
  };
  if (unchecked.length) {
    why += `; ${UNCHECKED}`;
    values.not_checked = unchecked.map(({ short }) => short);
  }
  return passed("checkpoint", why, values);
}

/** Throws unless the records are in the registry of `size` records under a status entry. */
function checkRecords(records, size, status) {
  const root = fromHex(status.registry_root);
  for (const { index, data, path } of records) {
    checkInclusion(leafHash(data), index, size, path, root);
  }
}

/** What is wrong where too few witnesses cosigned at about the ledger time; null otherwise. */
export async function judgeWitnessTimes(trust, checkpoint, time) {
  const { size } = checkpoint;
  let cosigned;
  try {
    cosigned = await trust.cosignatures(checkpoint);
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
    return null;
  }
  const names = [...cosigned.keys()];
  if (!trust.policies(size).every((policy) => policy.isMet(names))) return null;
  const seconds = (time - (((time % SECOND) + SECOND) % SECOND)) / SECOND;
  if (trust.isWitnessed(size, cosigned, seconds)) return null;
  const limit = trust.maxWitnessDifference;
  const why = `the quorum's witnesses did not cosign within ${limit} s of the ledger time`;
  const values = {
    ledger_time: formatInstant(time),
    witnesses: Object.fromEntries(
      [...cosigned].map(([name, at]) => [name, formatInstant(at * SECOND)]),
    ),
    max_witness_difference_seconds: limit,
  };
  return check("freshness", "failed", why, values, DISAGREEING);
}

/** Whether the ledger time is recent enough at the moment of reliance; `limit` in seconds. */
export function judgeAge(time, reference, limit) {
  const age = reference - time;
  const values = {
    ledger_time: formatInstant(time),
    as_of: formatInstant(reference),
    max_checkpoint_age_seconds: limit,
  };
  if (age < -CLOCK_TOLERANCE) {
    const why = `the checkpoint is ${-age / SECOND} s younger than the moment of reliance, ` +
      `${formatInstant(reference)}: is this machine's clock right?`;
    return check("freshness", "failed", why, values, STALE);
  }
  const seconds = (age > 0n ? age : 0n) / SECOND;
  if (age > BigInt(limit) * SECOND) {
    const why = `the checkpoint is ${seconds} s old, at most ${limit} s are allowed for now`;
    return check("freshness", "failed", why, values, STALE);
  }
  return passed("freshness", `the checkpoint is ${seconds} s old`, values);
}

/** The checkpoint's last leaf, which must be a status entry that reflects all before it. */
function readStatusEntry(told, checkpoint) {
  const { index } = told;
  const entry = parseEntry(told.value, told.data.length);
  if (entry.kind !== "status") throw refuse(`entry ${index} is no status entry`);
  const last = checkpoint.size - 1n;
  if (BigInt(index) !== last) {
    throw refuse(`the status entry is entry ${index}, the last one is ${last}`);
  }
  if (entry.reflects !== index) {
    throw refuse(`the status entry ${index} reflects only what is below ${entry.reflects}`);
  }
  checkLogged(told, checkpoint);
  return entry;
}
