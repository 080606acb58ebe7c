// Bundle notes: ledger/bundle.py.
import { base64, decodeHash, decodeUtf8, utf8 } from "./bytes.js";
import { malformed } from "./errors.js";
import { checkDepartment } from "./identity.js";
import { parseDecimal, parseNote } from "./note.js";
import { BUNDLE_FORM, MAX_EPOCH, MAX_EVENTS, MAX_LANES, MAX_SEQUENCE } from "./tables.js";
import { repr } from "./text.js";
import { parseMoment } from "./times.js";

export const bundleKeyName = (origin, department) => `${origin}/department/${department}/bundle`;

/** {note, header} of a bundle's note, whoever signed it. */
export function parseBundleNote(text) {
  const note = parseNote(utf8(text));
  const said = decodeUtf8(note.text);
  const header = parseHeader(said);
  if (headerText(header) !== said) {
    throw malformed("malformed-note", "the bundle's note is not in canonical form");
  }
  return { note, header };
}

/** The header in a note's text. */
export function parseHeader(text) {
  const lines = text.split("\n");
  if (lines.length !== 7 || lines[6] || lines[1] !== BUNDLE_FORM) {
    throw malformed(
      "malformed-note",
      `a bundle note has six lines, the second ${repr(BUNDLE_FORM)}`,
    );
  }
  const words = lines[0].split("/");
  const parts = words.length < 6 ? words : [words.slice(0, -5).join("/"), ...words.slice(-5)];
  if (parts.length !== 6 || parts[1] !== "bundle") {
    throw malformed("malformed-note", "a bundle's origin line is ORIGIN/bundle/D/LANE/EPOCH/N");
  }
  checkDepartment(parts[2]);
  const [producer, ...previous] = lines[4].split(" ");
  if (!/^[0-9a-f]{32}$/.test(producer)) {
    throw malformed("malformed-note", "a producer id is 32 hex digits");
  }
  parseMoment(lines[5]);
  if (!lines[5].endsWith("Z")) {
    throw malformed("malformed-note", "the signing time is in UTC, ending in Z");
  }
  return {
    origin: parts[0],
    department: parts[2],
    lane: Number(parseDecimal(parts[3], BigInt(MAX_LANES - 1))),
    epoch: Number(parseDecimal(parts[4], BigInt(MAX_EPOCH))),
    sequence: Number(parseDecimal(parts[5], BigInt(MAX_SEQUENCE))),
    count: Number(parseDecimal(lines[2], BigInt(MAX_EVENTS))),
    root: decodeHash(lines[3]),
    producer,
    previous: decodeHash(previous.join(" ")),
    signedAt: lines[5],
  };
}

/** The text that a department signs. */
export function headerText(header) {
  const { origin, department, lane, epoch, sequence } = header;
  return [
    `${origin}/bundle/${department}/${lane}/${epoch}/${sequence}`,
    BUNDLE_FORM,
    header.count,
    base64(header.root),
    `${header.producer} ${base64(header.previous)}`,
    header.signedAt,
    "",
  ].join("\n");
}
