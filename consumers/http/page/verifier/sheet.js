// What the QR code on a sheet of paper says: ledger/sheet.py. A signed statement, and no proof.
import { base64, concat, decodeHash, decodeUtf8, hex, sha256, utf8 } from "./bytes.js";
import { judge, judgeAge, judgeWitnessTimes, passed } from "./checking.js";
import { attempt, malformed, proofError } from "./errors.js";
import { certificateKey, checkDepartment, checkNumber, checkType, normaliseNumber } from "./identity.js";
import { ML_DSA_44, Note, parseCheckpoint, parseDecimal } from "./note.js";
import { MAX_SHEET, SHEET_FORM, SHEET_PREFIX, SHEET_REASONS } from "./tables.js";
import { cut, repr, shown } from "./text.js";
import { dayStart, formatInstant, parseMoment, SECOND } from "./times.js";
import { check, decide, members, REFUSED, undecided } from "./verdict.js";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";
const REFERENCE = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const NO_EVENT = "a sheet shows no event: ask for the evidence";

const bad = (message) => malformed("malformed-evidence", message);

/** Whether a text is that of a sheet's QR code. */
export const isSheet = (text) => text.startsWith(SHEET_PREFIX);

/** The answer (plain JSON) that a QR code's text gives under a parsed trust file.
 *
 * `question` may have `type`, `issuer`, `number` of the certificate asked about, and `now` (BigInt,
 * microseconds). Any text gives an answer.
 */
export async function checkStatus(text, trust, question = {}) {
  const now = question.now ?? BigInt(Date.now()) * 1000n;
  const sheet = attempt(() => parseSheet(text), (error) =>
    undecided(REFUSED, error.message, "the file could not be read"));
  if (sheet.checks) return members(sheet);
  const { certificate } = sheet;
  const { type, issuer, number } = question;
  const asked = { type, issuer, number: number && normaliseNumber(number) };
  const wrong = Object.entries(asked)
    .filter(([name, value]) => value !== undefined && value !== null && value !== certificate[name])
    .map(([name, value]) => `asked about ${name} ${value}, the sheet is of ${certificate[name]}`);
  if (wrong.length) {
    const what = "nothing was checked";
    return members(undecided("another-certificate", wrong.join("; "), what, { certificate }));
  }
  return members(await look(sheet, trust, now));
}

async function look(sheet, trust, now) {
  const without = (name) => () => check(name, "not-checked", NO_EVENT);
  const checks = await judge({
    "event-signature": without("event-signature"),
    authority: without("authority"),
    inclusion: without("inclusion"),
    checkpoint: () => checkCheckpoint(sheet, trust),
    status: () => checkState(sheet, trust),
    freshness: () => checkFreshness(sheet, trust, now),
  });
  const trusted = checks.every(({ name, result }) =>
    result === "passed" || !["checkpoint", "status"].includes(name));
  const found = trusted ? sheet.found : null;
  return {
    ...decide(checks, found, true),
    checks,
    certificate: sheet.certificate,
    found,
    question: { at: now, knownAt: null },
    treeSize: trusted ? sheet.size : null,
    ledgerTime: trusted ? sheet.ledgerTime : null,
    notes: [`sheet ${sheet.reference}: a signed statement, its history is not shown`],
  };
}

/** The checkpoint with the lines of those keys that the trust file knows. */
function signedCheckpoint({ origin, size, root, cosigned }, trust) {
  const policies = trust.policies(size);
  const keys = new Map(
    [
      ...trust.required(size),
      ...policies.flatMap(({ logs, witnesses }) => [...logs, ...witnesses.map(({ key }) => key)]),
    ].map((key) => [String(key), key]),
  );
  const lines = [...keys.values()]
    .filter(({ hash }) => cosigned.has(hash))
    .map(({ name, hash }) => `\u2014 ${name} ${base64(cosigned.get(hash))}\n`);
  return utf8(`${origin}\n${size}\n${base64(root)}\n\n${lines.join("")}`);
}

async function checkCheckpoint(sheet, trust) {
  const { origin, size, root, ledgerTime } = sheet;
  const refuse = (message) => proofError("checkpoint-refused", message);
  if (origin !== trust.origin) {
    throw refuse(`the checkpoint is of ${shown(origin, 120)}, trusted is ${repr(trust.origin)}`);
  }
  const needed = trust.required(size);
  if (!needed.length) throw refuse(`no key is named for size ${size}`);
  const leftOut = needed.filter(({ kind }) => kind === ML_DSA_44);
  if (leftOut.length === needed.length) {
    const why = "this ledger's signatures do not fit on a sheet";
    return check("checkpoint", "not-checked", why, {}, "signature-unsupported");
  }
  const { checkpoint } = await trust.without(leftOut).checkCheckpoint(signedCheckpoint(sheet, trust));
  const until = trust.untilTime(size);
  if (until !== null && ledgerTime >= until) {
    throw refuse(`a key for this size was retired before ${formatInstant(ledgerTime)}`);
  }
  const cosigned = await trust.cosignatures(checkpoint);
  let why = "signed by the ledger's key";
  if (trust.policies(size).some(({ quorum }) => quorum !== "none")) {
    why += `, cosigned by the quorum of witnesses it asks for (${cosigned.size} did)`;
  }
  const values = {
    origin,
    size,
    root: hex(root),
    keys: needed.filter((key) => !leftOut.includes(key)).map(({ short }) => short),
    witnesses: Object.fromEntries(
      [...cosigned].map(([name, seconds]) => [name, formatInstant(seconds * SECOND)]),
    ),
  };
  if (leftOut.length) {
    why += "; ML-DSA-44: not checked (sheet)";
    values.not_checked = leftOut.map(({ short }) => short);
  }
  return passed("checkpoint", why, values);
}

async function checkState(sheet, trust) {
  const { origin, certificate, signature } = sheet;
  const hash = hex(signature.subarray(0, 4));
  const key = trust.sheetKeys.find((each) => each.hash === hash);
  if (!key) throw proofError("bad-signature", `the trust file names no sheet key with hash ${hash}`);
  if (key.name !== `${origin}/sheet`) {
    throw proofError("bad-signature", `${shown(key.name, 120)} does not sign sheets`);
  }
  const line = { name: key.name, hash, signature: signature.subarray(4) };
  await new Note(utf8(sheet.text), [line]).checkSignedBy(key);
  const why = "the ledger's sheet key signed this state; its history is not shown: evidence proves it";
  return passed("status", why, {
    reference: sheet.reference,
    key: key.short,
    record_hash: hex(sheet.record),
    map_key: hex(certificateKey(certificate.type, certificate.issuer, certificate.number)),
    holds_until: formatInstant(sheet.holdsUntil),
  });
}

async function checkFreshness(sheet, trust, now) {
  const checkpoint = parseCheckpoint(signedCheckpoint(sheet, trust));
  const disagreeing = await judgeWitnessTimes(trust, checkpoint, sheet.ledgerTime);
  if (disagreeing) return disagreeing;
  const age = judgeAge(sheet.ledgerTime, now, trust.maxAge);
  if (age.result === "failed" || now < sheet.holdsUntil) return age;
  const why = `the sheet says this until ${formatInstant(sheet.holdsUntil)}: ask again`;
  return check("freshness", "failed", why, age.values, "checkpoint-stale");
}

// --- form ---

function parseSheet(text) {
  if (!isSheet(text) || text.length > MAX_SHEET) {
    throw bad(`a sheet's QR code begins with ${SHEET_PREFIX}`);
  }
  const data = decodeBase45(text.slice(SHEET_PREFIX.length));
  const end = data.indexOf(0);
  const rest = data.subarray(end + 1);
  if (end < 0 || rest.length < 68) throw bad("a sheet is signed");
  const cosigned = new Map();
  for (let at = 68; at < rest.length; at += 1 + rest[at]) {
    const line = rest.subarray(at + 1, at + 1 + rest[at]);
    if (line.length < 5 || line.length < rest[at]) {
      throw bad("a signature is a 4-byte key hash and more");
    }
    const hash = hex(line.subarray(0, 4));
    if (cosigned.has(hash)) throw bad("two signatures by one key hash");
    cosigned.set(hash, line);
  }
  const sheet = { ...parseStatement(data.subarray(0, end)), signature: rest.subarray(0, 68), cosigned };
  const lines = [...cosigned.values()].map((line) => concat([line.length], line));
  const again = encodeBase45(concat(utf8(sheet.text), [0], sheet.signature, ...lines));
  if (SHEET_PREFIX + again !== text) throw bad("not printed as a sheet is");
  return sheet;
}

function parseStatement(bytes) {
  let said;
  try {
    said = decodeUtf8(bytes);
  } catch {
    throw bad("a sheet is UTF-8");
  }
  const lines = said.split("\n");
  if (lines.length !== 13 || lines[12] || lines[1] !== SHEET_FORM) {
    throw bad(`a sheet has 12 lines, the second ${repr(SHEET_FORM)}`);
  }
  if (!lines[0].endsWith("/sheet")) throw bad("a sheet's first line is ORIGIN/sheet");
  const parts = lines.map((line) => line.split(" "));
  if ([[3, 2], [5, 3], [6, 2], [7, 2]].some(([n, count]) => parts[n].length !== count)) {
    throw bad("a line of the sheet lacks a word");
  }
  const [answer, reason, version] = parts[5];
  if (!(Object.hasOwn(SHEET_REASONS, answer) && SHEET_REASONS[answer].includes(reason))) {
    throw bad(`no sheet says ${cut(answer, 0, 20)} ${cut(reason, 0, 40)}`);
  }
  const [issuer, responsible] = parts[3];
  const [type, number] = [lines[2], lines[4]];
  checkType(type);
  checkDepartment(issuer);
  checkNumber(number);
  checkDepartment(responsible);
  const [validFrom, validUntil] = parts[6].map((day) => (day === "-" ? null : day));
  for (const day of [validFrom, validUntil]) {
    if (day === null || day === "unknown") continue;
    if (/^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2})$/.test(day)) dayStart(day);
    else parseMoment(day);
  }
  const [since, until] = parts[7];
  const sheet = {
    origin: lines[0].slice(0, -"/sheet".length),
    certificate: { type, issuer, number },
    found: {
      answer,
      reason,
      version: Number(parseDecimal(version, 999_999n)),
      since: since === "-" ? null : parseMoment(since),
      validFrom,
      validUntil,
      responsible,
    },
    holdsUntil: parseMoment(until),
    record: decodeHash(lines[8]),
    size: Number(parseDecimal(lines[9], 2n ** 53n - 1n)),
    root: decodeHash(lines[10]),
    ledgerTime: parseMoment(lines[11]),
  };
  return { ...sheet, ...printStatement(sheet) };
}

/** {text, reference} of what a parsed statement says. */
function printStatement({ origin, certificate, found, holdsUntil, record, size, root, ledgerTime }) {
  const { type, issuer, number } = certificate;
  const text = [
    `${origin}/sheet`,
    SHEET_FORM,
    type,
    `${issuer} ${found.responsible}`,
    number,
    `${found.answer} ${found.reason} ${found.version}`,
    `${found.validFrom ?? "-"} ${found.validUntil ?? "-"}`,
    `${found.since === null ? "-" : formatInstant(found.since)} ${formatInstant(holdsUntil)}`,
    base64(record),
    size,
    base64(root),
    formatInstant(ledgerTime),
    "",
  ].join("\n");
  const bits = BigInt(`0x${hex(sha256(utf8(text)).subarray(0, 8))}`) >> 4n;
  const letters = Array.from({ length: 12 }, (_, n) =>
    REFERENCE[Number((bits >> BigInt(55 - 5 * n)) & 31n)]).join("");
  return { text, reference: letters.match(/.{4}/g).join("-") };
}

/** Base45 (RFC 9285). */
function encodeBase45(data) {
  let text = "";
  for (let n = 0; n < data.length; n += 2) {
    const pair = data.subarray(n, n + 2);
    let number = pair.length === 2 ? pair[0] * 256 + pair[1] : pair[0];
    for (let i = 0; i <= pair.length; i++) {
      text += ALPHABET[number % 45];
      number = Math.floor(number / 45);
    }
  }
  return text;
}

function decodeBase45(text) {
  const bytes = [];
  for (let n = 0; n < text.length; n += 3) {
    const digits = Array.from(text.slice(n, n + 3), (char) => ALPHABET.indexOf(char));
    const number = digits.reduceRight((sum, digit) => sum * 45 + digit, 0);
    const size = digits.length - 1;
    if (size === 0 || Math.min(...digits) < 0 || number >= 256 ** size) throw bad("not base45");
    bytes.push(...(size === 2 ? [number >> 8, number & 255] : [number]));
  }
  return Uint8Array.from(bytes);
}
