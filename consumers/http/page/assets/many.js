// Many certificates at once: a table of numbers in, the same table with the answers out, and one
// archive of the evidence.
import { decodeText, formatRow, parseTable } from "./csv.js";
import { fill, Wording } from "./view.js";
import { Archive } from "./zip.js";

const MAX_FILE = 32 * 1024 * 1024; // bytes
const MAX_ROWS = 60_000; // an archive holds no more files
const TOGETHER = 250; // questions in one request
const HEADINGS = /number|identifier|licen[cs]e.?no|编号|证号|号码|标识/i;
const TONES = ["valid", "not-valid", "not-found", "cannot-decide"];
const byId = (id) => document.getElementById(id);
const base = new URL("..", import.meta.url);
const language = document.documentElement.lang.slice(0, 2);
const texts = await (await fetch(new URL(`texts/${language}.json`, base))).json();
const wording = new Wording(texts, language);

let run = 0; // a newer file ends the work on an older one

function complain(key, values = {}) {
  const block = byId("problem-template").content.cloneNode(true);
  block.querySelector("[data-problem]").textContent = fill(texts[key], values);
  byId("problem").replaceChildren(block);
}

/** An answer, waiting as long as the server asks for. */
async function patiently(path, options) {
  for (let attempt = 0; ; attempt++) {
    const answer = await fetch(path, options);
    if (answer.ok || ![429, 503].includes(answer.status) || attempt === 20) return answer;
    const seconds = Number(answer.headers.get("retry-after")) || 1;
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

async function ask(numbers) {
  const body = numbers.map((number, id) => `${JSON.stringify({ id, number })}\n`).join("");
  const answer = await patiently("/v1/batch", {
    method: "POST",
    headers: { "Content-Type": "application/x-ndjson" },
    body,
  });
  if (!answer.ok) throw new Error(`/v1/batch: ${answer.status}`);
  const lines = (await answer.text()).trim().split("\n").map((line) => JSON.parse(line));
  return new Map(lines.map((line) => [line.id, line]));
}

function progress(done, total) {
  byId("progress").max = total;
  byId("progress").value = done;
  byId("progress-words").textContent = wording.say("many.progress", {
    done: done.toLocaleString("en-US"),
    total: total.toLocaleString("en-US"),
  });
}

async function take(file) {
  const mine = ++run;
  byId("problem").replaceChildren();
  byId("result").hidden = true;
  if (file.size > MAX_FILE) return complain("error.table-too-large");
  let table;
  try {
    table = parseTable(decodeText(new Uint8Array(await file.arrayBuffer())));
  } catch (error) {
    return complain("error.no-table", { error: error.message });
  }
  const { rows, delimiter } = table;
  const column = Math.max(0, (rows[0] ?? []).findIndex((cell) => HEADINGS.test(cell)));
  const hasHeading = HEADINGS.test(rows[0]?.[column] ?? "");
  const asked = hasHeading ? rows.slice(1) : rows;
  if (!asked.length) return complain("error.no-rows");
  if (asked.length > MAX_ROWS) return complain("error.too-many-rows", { rows: asked.length.toLocaleString("en-US") });

  byId("working").hidden = false;
  progress(0, asked.length);
  const answers = [];
  for (let at = 0; at < asked.length; at += TOGETHER) {
    const numbers = asked.slice(at, at + TOGETHER).map((row) => (row[column] ?? "").trim());
    const told = await ask(numbers);
    if (mine !== run) return undefined;
    numbers.forEach((number, n) => answers.push({ number, ...told.get(n) }));
    progress(answers.length, asked.length);
  }
  byId("working").hidden = true;
  return show(file.name, { rows, asked, answers, hasHeading, delimiter, column });
}

function show(name, { rows, asked, answers, hasHeading, delimiter }) {
  const stem = name.replace(/\.[^.]*$/, "");
  byId("counts").replaceChildren(
    ...TONES.map((tone) => {
      const count = answers.filter((each) => (each.answer ?? "cannot-decide") === tone).length;
      const item = byId("count-template").content.cloneNode(true);
      item.querySelector("li").classList.add(tone);
      item.querySelector("use").setAttribute("href", `#icon-${tone}`);
      item.querySelector("strong").textContent = count.toLocaleString("en-US");
      item.querySelector("span").textContent = texts[`verdict.${tone}`];
      return item;
    }),
  );
  const heading = ["answer", "reason", "since", "valid-from", "valid-until", "type", "issuer", "file"]
    .map((each) => texts[`many.${each}`]);
  const lines = hasHeading ? [formatRow([...rows[0], ...heading], delimiter)] : [];
  asked.forEach((row, n) => lines.push(formatRow([...row, ...cells(answers[n], n)], delimiter)));
  save(byId("save-table"), new Blob(["\ufeff", ...lines], { type: "text/csv" }), `${stem}.answers.csv`);
  byId("save-evidence").onclick = ({ target }) => collect(target, answers, stem);
  byId("result").hidden = false;
  byId("result-title").focus();
}

function cells(told, n) {
  if (!told.answer) return [texts["verdict.cannot-decide"], told.problem?.detail ?? "", "", "", "", "", "", ""];
  const { certificate } = told;
  const reason = wording.optional(`reason.${told.reason}`) || told.reason;
  return [
    texts[`verdict.${told.answer}`], reason, told.since,
    certificate?.valid_from, certificate?.valid_until, certificate?.type, certificate?.issuer,
    hasEvidence(told) ? fileName(told.number, n) : "",
  ];
}

const hasEvidence = ({ answer, certificate }) => Boolean(answer && certificate?.type);

const fileName = (number, n) =>
  `${String(n + 1).padStart(5, "0")}-${number.replace(/[^\p{L}\p{N}.-]+/gu, "-").slice(0, 60)}.evidence.json`;

/** The evidence of all answers that have one file of it, as one archive. */
async function collect(button, answers, stem) {
  const mine = run;
  button.disabled = true;
  byId("working").hidden = false;
  const archive = new Archive();
  let n = 0;
  try {
    for (const told of answers) {
      if (hasEvidence(told)) {
        const { number, certificate } = told;
        const query = new URLSearchParams({ number, type: certificate.type, issuer: certificate.issuer });
        const answer = await patiently(`/v1/evidence?${query}`);
        if (mine !== run) return;
        if (answer.ok) archive.add(fileName(number, n), new Uint8Array(await answer.arrayBuffer()));
      }
      n += 1;
      progress(n, answers.length);
    }
    const link = document.createElement("a");
    save(link, archive.close(), `${stem}.evidence.zip`);
    link.click();
  } finally {
    byId("working").hidden = true;
    button.disabled = false;
  }
}

function save(link, blob, name) {
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(blob);
  link.download = name;
}

const takeSafely = (file) =>
  take(file).catch((error) => {
    byId("working").hidden = true;
    complain("error.unexpected", { error: String(error.message).slice(0, 200) });
  });

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", ({ target }) => {
  const file = target.files[0];
  target.value = "";
  if (file) takeSafely(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = event.dataTransfer.files[0];
  if (file) takeSafely(file);
});
byId("tools").hidden = false;
