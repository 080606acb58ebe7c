// Tables as text: read as people's programs write them, written so that no cell is a formula.

const FORMULA = /^[=+\-@\t\r]/;

/** The text of a file: UTF-8, else GB 18030, as older Chinese programs write. */
export function decodeText(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("gb18030").decode(bytes);
  }
}

/** {rows, delimiter} of a table; RFC 4180, separated by commas, semicolons or tabs. */
export function parseTable(text) {
  const delimiter = [",", ";", "\t"].map((each) => [text.split("\n", 1)[0].split(each).length, each])
    .reduce((most, each) => (each[0] > most[0] ? each : most))[1];
  const cell = new RegExp(`("(?:[^"]|"")*"|(?!")[^${delimiter}\\r\\n]*)(${delimiter}|\\r?\\n|\\r|$)`, "y");
  const rows = [];
  let row = [];
  while (cell.lastIndex < text.length) {
    const found = cell.exec(text);
    if (!found) throw new SyntaxError(`line ${rows.length + 1}: a quoted cell does not end`);
    const [, written, end] = found;
    row.push(written.startsWith('"') ? written.slice(1, -1).replaceAll('""', '"') : written);
    if (end !== delimiter) {
      if (row.some((each) => each.trim())) rows.push(row);
      row = [];
    } else if (cell.lastIndex === text.length) row.push("");
  }
  if (row.some((each) => each.trim())) rows.push(row);
  return { rows, delimiter };
}

/** A row as text; what a spreadsheet would take for a formula is made a text. */
export function formatRow(cells, delimiter) {
  const written = cells.map((each) => {
    const text = String(each ?? "");
    const guarded = FORMULA.test(text.trimStart()) || FORMULA.test(text) ? `'${text}` : text;
    return /["\r\n]/.test(guarded) || guarded.includes(delimiter)
      ? `"${guarded.replaceAll('"', '""')}"`
      : guarded;
  });
  return `${written.join(delimiter)}\r\n`;
}
