// What the page calls: evidence in, an answer out, as `certledger verify --json` prints it.
//
// Nothing is sent anywhere. One thing is not done that `certledger verify` does: ML-DSA-44, which no
// browser has; where the trust file asks for such a signature, check 4 and the notes say so.
import { utf8 } from "./bytes.js";
import { Examination, UNCHECKED } from "./checking.js";
import { attempt, LedgerError } from "./errors.js";
import { parseEvidence } from "./evidence.js";
import { normaliseNumber } from "./identity.js";
import { ask, asksSame, options } from "./question.js";
import { formatInstant, parseWhen } from "./times.js";
import { members, refusedBy, REFUSED, undecided } from "./verdict.js";

export { library } from "./ed25519.js";
export { LedgerError } from "./errors.js";
export { checkStatus, isSheet } from "./sheet.js";
export { parseTrust } from "./trust.js";

const NOW = "now";
const TOLERANCE = 1_000_000n; // microseconds by which a moment may be ahead before it is "to come"

/** The machine's time in microseconds. */
const clock = () => BigInt(Date.now()) * 1000n;

/** The answer (plain JSON) that evidence supports under a parsed trust file.
 *
 * `question` has what is asked, each left out or undefined for the default: `at`, `knownAt`,
 * `reliedAt` (moments, days or dates as people write them), `version` (a number), `asAsked` (ask
 * what the file was made for), `type`, `issuer`, `number` (of the certificate asked about), `now`
 * (BigInt, microseconds). Any bytes give an answer; LedgerError only for moments that cannot be
 * understood.
 */
export async function checkEvidence(bytes, trust, question = {}) {
  const now = question.now ?? clock();
  const answer = await checkFile(typeof bytes === "string" ? utf8(bytes) : bytes, trust, now, question);
  const notes = [...(answer.notes ?? [])];
  const at = answer.question?.at ?? null;
  if (answer.found && at !== null && at > now + TOLERANCE) {
    notes.push("that moment is yet to come: this is what the ledger knows by now, events may follow");
  }
  const { values, why } = answer.checks.find(({ name }) => name === "checkpoint");
  if (values.not_checked || why === UNCHECKED) notes.push(UNCHECKED);
  return members({ ...answer, notes });
}

async function checkFile(bytes, trust, now, asked) {
  const evidence = attempt(() => parseEvidence(bytes), (error) =>
    undecided(REFUSED, error.message, "the file could not be read"));
  if (evidence.checks) return evidence;
  const other = another(evidence.certificate, asked);
  if (other) return other;
  let question;
  let reliedAt = null;
  try {
    const { zone } = new Examination(evidence, trust, now);
    const when = (text) => (text === NOW ? null : parseWhen(text, zone));
    question = asked.asAsked ? { ...evidence.question } : ask(now);
    if (isGiven(asked.at)) question.at = when(asked.at);
    if (isGiven(asked.knownAt)) question.knownAt = when(asked.knownAt);
    if (isGiven(asked.version)) question.version = asked.version;
    if (isGiven(asked.reliedAt)) reliedAt = when(asked.reliedAt);
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
    // A file that proves nothing does not get to say that the question is at fault.
    const own = await new Examination(evidence, trust, now).answer();
    if (refusedBy(own.checks)) return own;
    throw error;
  }
  const answer = await new Examination({ ...evidence, question }, trust, now, reliedAt).answer();
  const made = evidence.question;
  if (!refusedBy(answer.checks) && !asksSame(made, question)) {
    const words = options(made) || "no --at, --known-at and --version";
    answer.notes = [`the file was made for another question, which ${words} or --as-asked asks`];
    answer.fileQuestion = {
      at: made.at === null ? null : formatInstant(made.at),
      known_at: made.knownAt === null ? null : formatInstant(made.knownAt),
      version: made.version,
      options: options(made),
    };
  }
  return answer;
}

const isGiven = (value) => value !== undefined && value !== null;

/** The answer where the file is not about the certificate asked about. */
function another(certificate, { type, issuer, number }) {
  const asked = { type, issuer, number: isGiven(number) ? normaliseNumber(number) : number };
  const wrong = Object.entries(asked)
    .filter(([name, value]) => isGiven(value) && value !== certificate[name])
    .map(([name, value]) => `asked about ${name} ${value}, the file is of ${certificate[name]}`);
  if (!wrong.length) return null;
  const why = wrong.join("; ");
  return undecided("another-certificate", why, "nothing was checked", { certificate });
}
