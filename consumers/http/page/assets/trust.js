// Whose trust file evidence is checked with: this ledger's, or one that the visitor keeps here.

const KEY = "certledger trust file";
const MAX_TRUST = 256 * 1024; // bytes
const byId = (id) => document.getElementById(id);

const parse = async (text) => (await import("../verifier/index.js")).parseTrust(text);

function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // a browser that keeps nothing
  }
}

/** The trust file in use, whether it is the visitor's own, and the times here and at the server
 * (seconds; null without a connection).
 */
export async function currentTrust() {
  const own = kept();
  let answer = null;
  try {
    answer = await fetch("/trust.json", { cache: "no-cache" });
  } catch (error) {
    if (own === null) throw error;
  }
  const date = Date.parse(answer?.headers.get("date") ?? "");
  const times = Number.isNaN(date) ? null : { server: date / 1000, here: Date.now() / 1000 };
  if (own === null && !answer.ok) throw new Error(`/trust.json: ${answer.status}`);
  return { trust: await parse(own ?? (await answer.text())), isOwn: own !== null, times };
}

/** Let the visitor see and change whose trust file is used. */
export async function offerTrust(place, { loadTexts, complain }) {
  const texts = await loadTexts();
  const { fill, plain } = await import("./view.js");

  function show() {
    const own = kept();
    let origin = null;
    try {
      origin = own && JSON.parse(own).origin;
    } catch {
      // what is kept is no trust file: checking says so
    }
    byId("trust-state").textContent = own
      ? fill(texts["trust.using-own"], { origin: plain(origin ?? "?") })
      : texts["trust.using-server"];
    byId("trust-forget").hidden = !own;
  }

  byId("trust-choose").addEventListener("click", () => byId("trust-file").click());
  byId("trust-file").addEventListener("change", async ({ target }) => {
    const file = target.files[0];
    target.value = "";
    if (!file) return;
    const text = file.size > MAX_TRUST ? "" : await file.text();
    try {
      await parse(text);
      localStorage.setItem(KEY, text);
    } catch {
      await complain("error.no-trust-file");
    }
    show();
  });
  byId("trust-forget").addEventListener("click", () => {
    localStorage.removeItem(KEY);
    show();
    byId("trust-choose").focus();
  });
  show();
  place.hidden = false;
}
