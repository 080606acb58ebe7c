// An evidence file, checked here and shown; nothing of it leaves the browser.
import { parseEvidence } from "../verifier/evidence.js";
import { checkEvidence, checkStatus, isSheet } from "../verifier/index.js";
import { effective } from "../verifier/lifecycle.js";
import { fillTemplate } from "./fill.js";
import { currentTrust } from "./trust.js";
import { answerView, offsetOf, Wording } from "./view.js";

const REFUSED = "evidence-refused";
const CLOCK_SECONDS = 300; // what a device's clock may differ by without a word
const DATES = ["valid_from", "valid_until"];
const byId = (id) => document.getElementById(id);

/** Check `bytes` under the trust file in use and show the answer in place of what is shown. */
export async function showEvidence(bytes, name, { texts, language, at, knownAt, asAsked, askAsMade, complain }) {
  const { trust, isOwn, times } = await currentTrust();
  const question = asAsked ? { asAsked } : { at: at || undefined, knownAt: knownAt || undefined };
  const text = new TextDecoder().decode(bytes);
  const onPaper = isSheet(text);
  let answer;
  try {
    answer = await (onPaper ? checkStatus(text, trust) : checkEvidence(bytes, trust, question));
  } catch (error) {
    if (error?.code !== "malformed-time") throw error;
    return complain("error.time", { text: error.message });
  }
  const events = answer.reason !== REFUSED && !onPaper ? eventsIn(bytes) : [];
  const wording = new Wording(texts, language, offsetOf(answer, events));
  const origin = wording.foreign(trust.origin);
  const asked = {};
  if (question.at || (asAsked && answer.at)) asked.at = answer.at;
  if (question.knownAt || (asAsked && answer.known_at)) asked.known_at = answer.known_at;
  const view = answerView(answer, texts, language, {
    asked,
    names: namesIn(answer),
    events,
    trust: wording.say(isOwn ? "trust.own" : "trust.server", { origin }),
  });
  if (onPaper) {
    // a sheet's state is signed and not proven: see ledger/sheet.py
    const status = view.checks.find((check) => check.name === "status");
    if (status) Object.assign(status, { label: texts["sheet.status"], meaning: texts["sheet.status-meaning"] });
  }
  const content = fillTemplate(byId("answer-template"), view);
  const remarks = content.querySelector("[data-remarks]");
  remarks.append(paragraph(wording.say(`evidence.checked${onPaper ? "-sheet" : name ? "" : "-pasted"}`, { name: wording.foreign(name) })));
  if (onPaper && answer.ledger_time) {
    remarks.append(paragraph(wording.say("evidence.sheet", { moment: wording.moment(answer.ledger_time) })));
  }
  for (const text of clockRemarks(wording, answer, times)) remarks.append(paragraph(text, "warning"));
  if (answer.checks.some(({ values }) => values?.not_checked)) {
    remarks.append(paragraph(wording.say("evidence.unchecked"), "warning"));
  }
  if (answer.file_question && !asAsked) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "second";
    button.textContent = wording.say("evidence.as-made");
    button.addEventListener("click", askAsMade);
    remarks.append(paragraph(wording.say("evidence.other-question")), button);
  }
  if (remarks.querySelector(".warning")) content.querySelector(".verdict").after(remarks);
  byId("start")?.remove();
  byId("answer").replaceChildren(content);
  document.title = `${view.verdict} ${view.number} – ${texts.service}`;
  byId("number").value = "";
  if (location.hash !== "#evidence") history.pushState(null, "", "/#evidence");
  byId("verdict").focus();
  byId("answer").scrollIntoView({ block: "start" });
}

function paragraph(text, className = "") {
  const element = document.createElement("p");
  element.className = className;
  element.textContent = text;
  return element;
}

/** The history that the file shows and the checks have proven. */
function eventsIn(bytes) {
  const { history, entries } = parseEvidence(bytes);
  const times = new Map(entries.map(({ index, value }) => [index, value.time]));
  const standing = new Map(effective(history.map(({ transition }) => transition)).map((t) => [t.id, t]));
  return history.map(({ transition, index }) => {
    const stands = standing.get(transition.id);
    return {
      ...transition,
      learned_at: times.get(index),
      voided: !transition.corrects && !stands,
      restated: Boolean(stands) && DATES.some((name) => stands[name] !== transition[name]),
    };
  });
}

function namesIn({ certificate, names = {}, issuer_freshness: heard }) {
  const found = {};
  if (certificate && names.issuer) found[`department/${certificate.issuer}`] = names.issuer;
  if (heard && names.responsible) found[`department/${heard.department}`] = names.responsible;
  return found;
}

/** What is to be said of this device's clock: when the server's or the ledger's says otherwise. */
function clockRemarks(wording, { ledger_time: ledgerTime }, times) {
  const here = Date.now() / 1000;
  const moment = (seconds) => wording.moment(`${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`);
  if (times && Math.abs(times.server - times.here) > CLOCK_SECONDS) {
    return [wording.say("clock.server", { here: moment(times.here), there: moment(times.server) })];
  }
  const ledger = ledgerTime ? Date.parse(ledgerTime) / 1000 : here;
  if (ledger <= here + CLOCK_SECONDS) return [];
  return [wording.say("clock.ledger", { here: moment(here), there: moment(ledger) })];
}
