// An answer as the page shows it: view.py in JavaScript, over the same texts. A test holds the two
// against each other. The answer is the JSON of `verify --json`.

const MAX_SHOWN = 400; // characters of any text that comes from the ledger
const MAX_SENTENCE = 2000; // characters of a checker's sentence, to be said in this language
const MAX_LINES = 100; // of a check's values
const JUST = 60; // seconds that are not worth a word
const UNITS = [["days", 86400], ["hours", 3600], ["minutes", 60], ["seconds", 1]];
const ENDS = ["suspended", "revoked", "expired", "transferred-out"];
// What stands in a named place of a checker's sentence: see texts.py.
const PLACES = {
  moment: String.raw`(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))`,
  why: "([^\\n]+)",
  list: "([^\\n]+)",
};
const WORD = "([^ \\n]+)";
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]/gu;
const grouped = new Intl.NumberFormat("en-US");

/** `text` with everything that could hide, or reorder a line, shown escaped. */
export const plain = (text) =>
  String(text).replace(HIDDEN, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);

/** `text` with the values in the places that name them, each once and never inside another. */
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** Minutes east of UTC at the end of a moment or a day with offset. */
function offsetMinutes(text) {
  if (!text || text.endsWith("Z")) return 0;
  const minutes = Number(text.slice(-5, -3)) * 60 + Number(text.slice(-2));
  return text.at(-6) === "-" ? -minutes : minutes;
}

function zoneName(offset) {
  if (!offset) return "UTC";
  const [hours, minutes] = [Math.floor(Math.abs(offset) / 60), Math.abs(offset) % 60];
  const rest = minutes ? `:${String(minutes).padStart(2, "0")}` : "";
  return `UTC${offset < 0 ? "-" : "+"}${hours}${rest}`;
}

export class Wording {
  constructor(texts, language, offset = 0) {
    Object.assign(this, { texts, language, offset });
  }

  say(key, values = {}) {
    return fill(this.texts[key], values);
  }

  optional(key) {
    return Object.hasOwn(this.texts, key) ? this.texts[key] : "";
  }

  count(key, n) {
    const forms = this.texts[key];
    return fill(n === 1 ? (forms.one ?? forms.other) : forms.other, { n: grouped.format(n) });
  }

  /** A text that somebody else wrote: nothing in it is hidden, and it ends. */
  foreign(text) {
    const given = [...String(text)];
    if (given.length <= MAX_SHOWN) return plain(given.join(""));
    const more = this.count("characters", given.length - MAX_SHOWN);
    return plain(given.slice(0, MAX_SHOWN).join("")) + this.say("cut", { more });
  }

  /** A checker's English sentence in this language; empty where it has none for it. */
  explain(why) {
    if ([...why].length > MAX_SENTENCE) return "";
    for (const [pattern, places, said] of this.#sentences()) {
      const fits = pattern.exec(why);
      const values = fits && places.map((name, n) => [name, this.#place(name, fits[n + 1])]);
      if (values?.every(([, value]) => value)) return fill(said, Object.fromEntries(values));
    }
    return "";
  }

  #sentences() {
    this.sentences ??= Object.entries(this.texts.sentences).map(([given, said]) => {
      const parts = given.split(/\{(\w+)\}/);
      const made = parts.map((part, n) =>
        n % 2 ? (PLACES[part] ?? WORD) : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      return [new RegExp(`^${made.join("")}$`, "u"), parts.filter((_, n) => n % 2), said];
    });
    return this.sentences;
  }

  #place(name, value) {
    if (name === "moment") return this.moment(value);
    if (name === "why") return this.explain(value);
    if (name === "list") {
      const parts = value.split(", ").map((part) => this.explain(part));
      return parts.every(Boolean) ? parts.join(this.say("decided.join")) : "";
    }
    return (name === "act" && this.optional(`event.${value}`)) || this.foreign(value);
  }

  /** What has names, in this language where it has one, with its code. */
  name(names, code) {
    const shown = this.foreign(code ?? "");
    if (!names || !Object.keys(names).length) return shown;
    const chosen = (Object.hasOwn(names, this.language) && names[this.language]) || Object.values(names)[0];
    return this.say("code", { name: this.foreign(chosen), code: shown });
  }

  day(text) {
    return this.#date(Number(text.slice(0, 4)), Number(text.slice(5, 7)), Number(text.slice(8, 10)));
  }

  /** An RFC 3339 moment; without its time where a day begins then. */
  moment(text) {
    const [, whole, fraction] = /^(.{19})(\.\d+)?/.exec(text);
    const instant = Date.parse(`${whole}Z`) - offsetMinutes(text) * 60000;
    let { offset } = this;
    let shown = new Date(instant + offset * 60000);
    if (shown.getUTCFullYear() < 1 || shown.getUTCFullYear() > 9999) {
      offset = 0;
      shown = new Date(instant);
    }
    const date = this.#date(shown.getUTCFullYear(), shown.getUTCMonth() + 1, shown.getUTCDate());
    const time = shown.toISOString().slice(-13, -5);
    if (time === "00:00:00" && !fraction) return date;
    return this.say("date.time", { date, time: time.slice(0, 5), zone: zoneName(offset) });
  }

  duration(seconds) {
    const [unit, length] = UNITS.find(([, size]) => seconds >= size) ?? UNITS.at(-1);
    return this.count(`duration.${unit}`, Math.floor(seconds / length));
  }

  validity(begin, end) {
    const first = this.#edge(begin);
    if (end == null || end === "open") return this.say("validity.open", { begin: first });
    return this.say("validity.range", { begin: first, end: this.#edge(end) });
  }

  #edge(day) {
    return day != null && /^\d/.test(day) ? this.day(day) : this.say("validity.unknown");
  }

  #date(year, month, day) {
    return this.say("date", { year, month: this.texts.months[month - 1], day });
  }
}

/** What the page shows of an answer. `asked`, `names`, `events` and `trust` as in view.py. */
export function answerView(members, texts, language, { asked, names, events, trust }) {
  const wording = new Wording(texts, language, offsetOf(members, events));
  const refused = members.reason === "evidence-refused";
  const lookedAt = refused || members.checks.some(({ result }) => result !== "not-checked");
  const checks = lookedAt ? members.checks.map((check) => checkView(wording, check)) : [];
  const count = (result) => String(checks.filter((check) => check.result === result).length);
  return {
    tone: refused ? "refused" : members.answer,
    when: asked.at || asked.known_at ? "then" : "now",
    moment: momentText(wording, asked),
    verdict: wording.say(`verdict.${members.answer}`),
    number: wording.foreign(members.certificate?.number ?? ""),
    reason: reasonText(wording, members),
    next: nextView(wording, members, asked, names),
    dispute: disputeText(wording, members),
    facts: refused ? [] : factsView(wording, members),
    grounds: lookedAt ? groundsView(wording, members, trust) : [],
    events: events.map((event) => eventView(wording, event, names)),
    checks,
    summary: wording.say("checks.summary", {
      passed: count("passed"),
      failed: count("failed"),
      unchecked: count("not-checked"),
    }),
  };
}

const join = (wording, parts) => parts.join(wording.say("separator"));

/** Where the answer's moments are at home, in minutes east of UTC: see view.py. */
export function offsetOf({ certificate, deciding }, events) {
  const days = [certificate ?? {}, ...events].flatMap((item) => [item.valid_from, item.valid_until]);
  const times = [...(deciding ?? []), ...events].map(({ time }) => time);
  return offsetMinutes([...days, ...times].find((text) => text && /^\d/.test(text)));
}

function momentText(wording, { at, known_at: knownAt }) {
  const parts = [at ? wording.say("moment.at", { moment: wording.moment(at) }) : wording.say("now")];
  if (knownAt) parts.push(wording.say("moment.known", { moment: wording.moment(knownAt) }));
  return join(wording, parts);
}

function reasonText(wording, { reason, since, certificate }) {
  const parts = [wording.optional(`reason.${reason}`) || reason];
  if (reason === "not-yet-valid" && certificate?.valid_from) {
    parts.push(wording.say("begins", { moment: wording.day(certificate.valid_from) }));
  } else if (since) {
    parts.push(wording.say("since", { moment: wording.moment(since) }));
  }
  return join(wording, parts);
}

function nextView(wording, members, { at }, names) {
  const { answer, certificate, reason, ledger_time: ledgerTime } = members;
  const found = [wording.optional(`next.${reason}`)];
  if (at && ledgerTime && Date.parse(at) - Date.parse(ledgerTime) > JUST * 1000) {
    found.push(wording.say("next.ahead"));
  }
  const unheard = (members.unheard ?? []).map((code) => wording.name(names[`department/${code}`], code));
  if (unheard.length) {
    found.push(wording.say("next.unheard", { names: unheard.join(wording.say("decided.join")) }));
  }
  if (answer === "not-found" && !certificate?.type) found.push(wording.say("next.absent"));
  if (answer === "cannot-decide" && !["evidence-refused", "ambiguous"].includes(reason)) {
    found.unshift(wording.say("next.cannot-decide"));
  }
  return found.filter(Boolean).map((text) => ({ text }));
}

const responsible = ({ issuer_freshness: heard, certificate }) =>
  heard?.department || certificate?.issuer || "";

function disputeText(wording, members) {
  const names = members.names ?? {};
  if (members.answer !== "not-valid" || !names.contact) return "";
  return wording.say("dispute", {
    name: wording.name(names.responsible ?? names.issuer, responsible(members)),
    contact: wording.foreign(names.contact),
  });
}

const terms = (wording, said) =>
  said.map(([term, text]) => ({ term: wording.say(`fact.${term}`), text }));

function factsView(wording, members) {
  const { certificate, names = {}, looked_up: lookedUp, known_since: knownSince } = members;
  const facts = [];
  if (lookedUp != null && lookedUp !== certificate?.number) {
    facts.push(["looked-up", wording.foreign(lookedUp)]);
  }
  if (certificate?.type) {
    facts.push(["type", wording.name(names.type, certificate.type)]);
    facts.push(["issuer", wording.name(names.issuer, certificate.issuer)]);
    const now = responsible(members);
    if (now !== certificate.issuer) facts.push(["responsible", wording.name(names.responsible, now)]);
  }
  if (certificate?.version) {
    facts.push(["validity", wording.validity(certificate.valid_from, certificate.valid_until)]);
    facts.push(["version", String(certificate.version)]);
  }
  if (knownSince) facts.push(["known-since", wording.moment(knownSince)]);
  return terms(wording, facts);
}

function groundsView(wording, members, trust) {
  const grounds = [];
  const deciding = (members.deciding ?? []).map((event) => decidedText(wording, event, members.reason));
  if (deciding.length) grounds.push(["decided-by", deciding.join(wording.say("decided.join"))]);
  const heard = members.issuer_freshness;
  if (heard && members.certificate?.issuer) grounds.push(["heard", heardText(wording, heard)]);
  if (members.tree_size !== null && members.ledger_time) {
    const entries = wording.count("entries", members.tree_size);
    grounds.push(["as-of", wording.say("as-of", { moment: wording.moment(members.ledger_time), entries })]);
  }
  grounds.push(["trust", trust]);
  return terms(wording, grounds);
}

function decidedText(wording, { event, time, reason }, answerReason) {
  // which kind of revocation it was, the answer's reason says
  const kind = event === "revoked" ? answerReason : event;
  const title = wording.optional(`event.${kind}`) || wording.foreign(event);
  const text = wording.say("decided", { event: title, moment: wording.moment(time) });
  if (!reason) return text;
  return join(wording, [text, wording.say("reason.code", { code: wording.foreign(reason) })]);
}

function heardText(wording, heard) {
  const { silence_limit_seconds: limit, silent_seconds: silent, signed_at: signedAt } = heard;
  let last = wording.say("heard.never");
  if (signedAt) {
    last = wording.say(silent < JUST ? "heard.just" : "heard.at", {
      moment: wording.moment(signedAt),
      duration: wording.duration(silent),
    });
  }
  const promise =
    limit === null
      ? wording.say("heard.no-limit")
      : wording.say("heard.limit", { duration: wording.duration(limit) });
  return join(wording, [last, promise]);
}

function eventView(wording, event, names) {
  const kind = event.event === "revoked" ? `revoked-${event.revocation}` : event.event;
  const remarks = [];
  if (event.valid_from || event.valid_until) {
    const validity = wording.validity(event.valid_from || event.time, event.valid_until);
    remarks.push(wording.say("timeline.validity", { validity }));
  }
  if (event.reason) remarks.push(wording.say("reason.code", { code: wording.foreign(event.reason) }));
  const mark = event.voided ? "timeline.voided" : event.restated ? "timeline.restated" : null;
  const department = `department/${event.by}`;
  return {
    tone: ENDS.includes(event.event) ? "ends" : "holds",
    title: wording.optional(`event.${kind}`) || wording.foreign(kind),
    moment: wording.moment(event.time),
    by: wording.say("timeline.by", {
      name: wording.name(Object.hasOwn(names, department) ? names[department] : null, event.by),
    }),
    remarks: join(wording, remarks),
    learned: event.learned_at
      ? wording.say("timeline.learned", { moment: wording.moment(event.learned_at) })
      : "",
    mark: mark ? wording.say(mark) : "",
  };
}

/** The raw values that a check looked at, as JSON; empty without any. */
function valuesText(wording, values) {
  if (!values || !Object.keys(values).length) return "";
  const lines = JSON.stringify(values, null, 2).split("\n");
  const shown = lines.slice(0, MAX_LINES).map((line) => wording.foreign(line));
  return [...shown, ...(lines.length > MAX_LINES ? ["…"] : [])].join("\n");
}

function checkView(wording, { name, result, why, values }) {
  const said = wording.explain(why);
  return {
    result,
    word: wording.say(`check.${result}`),
    label: wording.say(`check.${name}`),
    meaning: wording.say(`check.${name}.meaning`),
    name,
    said,
    why: said ? "" : wording.foreign(why),
    values: valuesText(wording, values),
  };
}
