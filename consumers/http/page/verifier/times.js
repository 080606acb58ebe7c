// Moments (BigInt, microseconds since 1970) and days with their offset: ledger/times.py, and of
// ledger/question.py what people mean by a date.
import { malformed } from "./errors.js";
import { cut, repr, shown } from "./text.js";

export const SECOND = 1_000_000n;
const DAY = 86_400n * SECOND;
const DATE = /^([0-9]{4})-([0-9]{2})-([0-9]{2})$/;
const CLOCK = /^T([01][0-9]|2[0-3]):([0-5][0-9]):$/;
const SECONDS = /^[0-5][0-9]$/;
const FRACTION = /^\.([0-9]{0,5}[1-9])([^]*)$/;
const OFFSET = /^(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])$/;

/** Days since 1970-01-01 of a day of the calendar. */
function daysOf(text) {
  const match = DATE.exec(text);
  if (!match) throw malformed("malformed-time", `${repr(text)} is no day like 2016-12-01`);
  const [year, month, day] = match.slice(1).map(Number);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  if (year === 0 || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) {
    throw malformed("malformed-time", `${repr(text)} is no day of the calendar`);
  }
  return BigInt(date.getTime() / 86_400_000);
}

function offsetOf(text) {
  if (!OFFSET.test(text)) {
    throw malformed("malformed-time", `${shown(text, 40)} is no offset like +08:00 or Z`);
  }
  if (text === "Z") return 0n;
  const minutes = BigInt(text.slice(1, 3)) * 60n + BigInt(text.slice(4, 6));
  if (minutes > 14n * 60n || (text[0] === "-" && minutes === 0n)) {
    throw malformed("malformed-time", `${repr(text)} is no offset (UTC is Z or +00:00)`);
  }
  return (text[0] === "+" ? minutes : -minutes) * 60n * SECOND;
}

const FIRST = daysOf("0001-01-01") * DAY;
const LAST = (daysOf("9999-12-31") + 1n) * DAY - 1n;

export function parseMoment(text) {
  const clock = CLOCK.exec(cut(text, 10, 17));
  const seconds = cut(text, 17, 19);
  if (!clock || !SECONDS.test(seconds)) {
    throw malformed("malformed-time", `${shown(text, 40)} is no moment like 2016-12-01T08:30:00+08:00`);
  }
  let offset = cut(text, 19);
  let micros = 0n;
  if (offset[0] === ".") {
    const match = FRACTION.exec(offset);
    if (!match) {
      throw malformed(
        "malformed-time",
        `${shown(text, 40)}: a fraction has 1 to 6 digits, the last of which is not 0`,
      );
    }
    micros = BigInt(match[1].padEnd(6, "0"));
    offset = match[2];
  }
  const minutes = BigInt(clock[1]) * 60n + BigInt(clock[2]);
  const inDay = (minutes * 60n + BigInt(seconds)) * SECOND + micros;
  const moment = daysOf(cut(text, 0, 10)) * DAY + inDay - offsetOf(offset);
  if (moment < FIRST || moment > LAST) {
    throw malformed("malformed-time", `${text} is not within the years 0001 to 9999 of UTC`);
  }
  return moment;
}

/** The moment in UTC, or the nearest that RFC 3339 can write. */
export function formatInstant(moment) {
  const clamped = clamp(moment);
  const micros = ((clamped % SECOND) + SECOND) % SECOND;
  const date = new Date(Number((clamped - micros) / 1000n));
  const text = date.toISOString().slice(0, 19);
  return text + (micros ? `.${String(micros).padStart(6, "0")}`.replace(/0+$/, "") : "") + "Z";
}

const clamp = (moment) => (moment < FIRST ? FIRST : moment > LAST ? LAST : moment);

/** The instant at which a day begins: 00:00 at its offset. */
export const dayStart = (text) => daysOf(cut(text, 0, 10)) * DAY - offsetOf(cut(text, 10));

/** The instant at which a day is over. */
export const dayEnd = (text) => dayStart(text) + DAY;

/** The instant that a person means: a moment, a day with offset, or a bare date in `zone`. */
export function parseWhen(text, zone) {
  if (text.startsWith("0000-")) {
    throw malformed("malformed-time", `${shown(text, 60)}: the ledger's calendar begins in year 1`);
  }
  if (DATE.test(text)) {
    const start = dayStart(`${text}Z`);
    return clamp(start - zoneOffset(text, start, zone));
  }
  if (text.includes("T")) return clamp(parseMoment(text));
  if (/^[0-9]{4}-[0-9]{2}-[0-9]{2}/.test(text)) return clamp(dayStart(text));
  throw malformed(
    "malformed-time",
    `${shown(text, 60)} is neither a date like 2016-12-01 nor a moment like 2016-12-01T08:30:00+08:00`,
  );
}

/** The offset of 00:00 on a date in a zone; the earlier of two such instants, and what held before
 * where there is none. */
function zoneOffset(text, wall, zone) {
  if (zone === null) {
    throw malformed(
      "malformed-time",
      `the issuer's time zone is not known here: give a full moment like ${text}T00:00:00Z`,
    );
  }
  let clock;
  try {
    clock = new Intl.DateTimeFormat("en-u-ca-gregory-nu-latn", {
      timeZone: zone,
      hourCycle: "h23",
      era: "short",
      ...{ year: "numeric", month: "numeric", day: "numeric" },
      ...{ hour: "numeric", minute: "numeric", second: "numeric" },
    });
  } catch {
    throw malformed(
      "malformed-time",
      `this machine's time zone database lacks ${zone}: give a full moment like ${text}T00:00:00+08:00`,
    );
  }
  const offsetAt = (instant) => {
    const parts = {};
    const date = new Date(Number(instant / 1000n));
    for (const { type, value } of clock.formatToParts(date)) parts[type] = value;
    const local = new Date(0);
    const year = /^B/.test(parts.era ?? "") ? 1 - parts.year : Number(parts.year);
    local.setUTCFullYear(year, parts.month - 1, parts.day);
    local.setUTCHours(parts.hour, parts.minute, parts.second);
    return BigInt(local - date) * 1000n;
  };
  const before = offsetAt(wall - DAY);
  const after = offsetAt(wall + DAY);
  const holds = (offset) => offsetAt(wall - offset) === offset;
  return !holds(before) && holds(after) ? after : before;
}
