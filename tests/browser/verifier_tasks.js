// What the tests ask of the browser's verifier, in node and in a real browser alike: tasks in, one
// JSON value out for each. Bytes travel as base64, moments in microseconds as text.

/** Performs tasks with the verifier's modules under the URL `base`. */
export async function perform(base, tasks) {
  const load = (name) => import(`${base}/${name}.js`);
  const [bytes, canonical, ed25519, errors, merkle, note, registry, times, index] = await Promise.all(
    ["bytes", "canonical", "ed25519", "errors", "merkle", "note", "registry", "times", "index"].map(load),
  );
  const raw = (text) => bytes.decodeBase64(text);
  const trusts = new Map();
  const trustOf = (text) => {
    if (!trusts.has(text)) trusts.set(text, index.parseTrust(text));
    return trusts.get(text);
  };
  const kinds = {
    library: () => index.library(),
    canonical: ({ data, limit }) => bytes.base64(canonical.format(canonical.parse(raw(data), limit))),
    async ed25519({ key, message, signature }) {
      ed25519.checkPublic(raw(key));
      return ed25519.verify(raw(key), raw(signature), raw(message));
    },
    async note({ data, vkeys }) {
      const parsed = note.parseNote(raw(data));
      const signers = [];
      for (const key of vkeys.map(note.parseCheckpointKey)) {
        if (parsed.by(key) && (await parsed.checkSignedBy(key))) signers.push(key.short);
      }
      return { text: bytes.decodeUtf8(parsed.text), signers };
    },
    async checkpoint({ data, vkey }) {
      const { origin, size, root, note: parsed } = note.parseCheckpoint(raw(data));
      await parsed.checkSignedBy(note.parseCheckpointKey(vkey));
      return { origin, size: String(size), root: bytes.hex(root) };
    },
    inclusion({ leaf, place, size, proof, root }) {
      merkle.checkInclusion(raw(leaf), place, size, proof.map(raw), raw(root));
      return true;
    },
    records: () =>
      Object.fromEntries(Object.entries(registry.RECORDS).map(([kind, form]) => [kind, Object.keys(form)])),
    when: ({ text, zone }) => String(times.parseWhen(text, zone)),
    moment: ({ text }) => times.formatInstant(times.parseMoment(text)),
    trust: ({ text }) => trustOf(text).origin,
    sheet: ({ text, trust, question }) =>
      index.checkStatus(text, trustOf(trust), { ...question, now: BigInt(question.now) }),
    evidence: ({ data, trust, question }) =>
      index.checkEvidence(raw(data), trustOf(trust), { ...question, now: BigInt(question.now) }),
  };
  const results = [];
  for (const task of tasks) {
    try {
      results.push({ result: await kinds[task.kind](task) });
    } catch (error) {
      if (!(error instanceof errors.LedgerError)) throw error;
      results.push({ kind: error.kind, code: error.code, message: error.message });
    }
  }
  return results;
}
