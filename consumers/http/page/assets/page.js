// What the page can do with scripts on: evidence files and QR pictures, dropped, pasted, chosen or
// seen by the camera. Everything else works without. Parts are loaded when they are needed.

const MAX_FILE = 8 * 1024 * 1024; // bytes
const MAX_NUMBER = 1024;
const SHEET = "CERTLEDGER1:"; // how the text of a sheet's QR code begins
const byId = (id) => document.getElementById(id);
const base = new URL("..", import.meta.url);
const language = document.documentElement.lang.slice(0, 2);
const form = document.querySelector("form.ask");
const box = byId("number");

let texts;
let shown = null; // the evidence file that is being shown

/** The texts in the page's language. */
export async function loadTexts() {
  texts ??= await (await fetch(new URL(`texts/${language}.json`, base))).json();
  return texts;
}

/** Say what is wrong with what was given, where a screen reader hears it. */
export async function complain(key, values = {}) {
  const { fill } = await import("./view.js");
  const said = await loadTexts();
  const block = byId("problem-template").content.cloneNode(true);
  block.querySelector("[data-problem]").textContent = fill(said[key], values);
  const place = byId("problem");
  place.replaceChildren(block);
  place.scrollIntoView({ block: "nearest" });
}

const settle = () => byId("problem").replaceChildren();

async function busy(work) {
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    // a part that does not come, be it a module or an answer, is a TypeError in every browser
    if (error instanceof TypeError && /fetch|import|load|network/i.test(error.message)) await complain("error.connection");
    else await complain("error.unexpected", { error: String(error?.message ?? error).slice(0, 200) });
  } finally {
    document.body.removeAttribute("aria-busy");
  }
}

// --- what was given -------------------------------------------------------------------------------

/** Do with a text what it is for. */
async function takeText(text) {
  const trimmed = text.trim();
  if (trimmed.startsWith("{") || text.startsWith(SHEET)) return takeBytes(new TextEncoder().encode(text), "");
  if (new TextEncoder().encode(trimmed).length > MAX_NUMBER) return complain("error.too-long");
  box.value = trimmed;
  return form.requestSubmit();
}

/** Do with a file what its contents are for, whatever its name says. */
async function takeFile(file) {
  settle();
  if (file.size > MAX_FILE) return complain("error.too-large");
  if (file.size === 0) return complain("error.empty-file");
  const head = new TextDecoder().decode(await file.slice(0, 1024).arrayBuffer());
  if (head.startsWith("%PDF-")) return complain("error.pdf");
  if (file.type.startsWith("image/")) return takePicture(file);
  if (/^\s*\{/.test(head.replace(/^\ufeff/, "")) || head.startsWith(SHEET)) {
    return takeBytes(new Uint8Array(await file.arrayBuffer()), file.name);
  }
  return complain("error.unknown-file");
}

async function takeBytes(bytes, name) {
  settle();
  const head = new TextDecoder().decode(bytes.subarray(0, 2048));
  if (head.includes('"certledger trust v')) return complain("error.trust-file");
  shown = { bytes, name };
  await showShown();
}

async function showShown(asAsked = false) {
  const { showEvidence } = await import("./evidence.js");
  await showEvidence(shown.bytes, shown.name, {
    texts: await loadTexts(),
    language,
    at: byId("at").value,
    knownAt: byId("known_at").value,
    asAsked,
    askAsMade: () => busy(() => showShown(true)),
    complain,
  });
}

async function takePicture(file) {
  const { readPicture } = await import("./qr.js");
  let text;
  try {
    text = await readPicture(file);
  } catch {
    return complain("error.no-picture");
  }
  return text === null ? complain("error.no-qr") : takeCode(text);
}

/** Do with a QR code's text what it is for. An address is not followed: only its question counts. */
async function takeCode(text) {
  let number = null;
  try {
    number = new URL(text).searchParams.get("number");
  } catch {
    // no address: the code holds a number or evidence itself
  }
  return takeText(number ?? text);
}

// --- where it comes from --------------------------------------------------------------------------

box.addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text");
  const file = [...event.clipboardData.files][0];
  if (file && !text) {
    event.preventDefault();
    busy(() => takeFile(file));
  } else if (text.trim().startsWith("{") || text.startsWith(SHEET) || text.length > MAX_NUMBER) {
    event.preventDefault();
    busy(() => takeText(text));
  }
});

form.addEventListener("submit", (event) => {
  settle();
  if (box.value.trim() || !shown) return;
  event.preventDefault();
  busy(() => showShown());
});

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  if (!carriesFiles(event)) return;
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (file) busy(() => takeFile(file));
});

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", ({ target }) => {
  const file = target.files[0];
  target.value = "";
  if (file) busy(() => takeFile(file));
});

if (navigator.mediaDevices?.getUserMedia) {
  byId("camera").hidden = false;
  byId("camera").addEventListener("click", () =>
    busy(async () => {
      settle();
      const { scan } = await import("./qr.js");
      const text = await scan(byId("scanner"));
      if (text === undefined) await complain("error.no-camera");
      else if (text !== null) await takeCode(text);
    }),
  );
}

byId("print")?.addEventListener("click", () => print());
byId("recheck")?.addEventListener("click", ({ target }) =>
  busy(async () => {
    const answer = await fetch(target.dataset.evidence);
    if (!answer.ok) return complain("error.unreachable");
    return takeBytes(new Uint8Array(await answer.arrayBuffer()), "");
  }),
);

// Where there is a keyboard, the next number can be typed, or scanned, at once.
if (matchMedia("(pointer: fine)").matches && document.activeElement === document.body && !location.hash) {
  box.focus({ preventScroll: true });
  box.select();
}
addEventListener("popstate", () => location.reload());
import("./trust.js").then(({ offerTrust }) => offerTrust(byId("trust"), { loadTexts, complain }));
for (const element of document.querySelectorAll("#tools, [data-scripted]")) element.hidden = false;
