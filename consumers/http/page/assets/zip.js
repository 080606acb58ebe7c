// A ZIP archive of stored files (APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16), as a Blob.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let i = 0; i < 8; i++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});
const UTF8_NAMES = 0x800;

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function record(signature, ...fields) {
  const size = 4 + fields.reduce((sum, [width]) => sum + width, 0);
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return new Uint8Array(view.buffer);
}

/** Takes files one by one; at most 65,535 files and 4 GiB. */
export class Archive {
  #parts = [];
  #directory = [];
  #size = 0;
  #count = 0;

  add(name, bytes) {
    const encoded = new TextEncoder().encode(name);
    const same = [
      [2, 20], [2, UTF8_NAMES], [2, 0], [2, 0], [2, 0x21], // stored, no time, 1 January 1980
      [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, encoded.length], [2, 0],
    ];
    const head = record(0x04034b50, ...same);
    const entry = record(0x02014b50, [2, 20], ...same, [2, 0], [2, 0], [2, 0], [4, 0], [4, this.#size]);
    this.#parts.push(new Blob([head, encoded, bytes]));
    this.#directory.push(entry, encoded);
    this.#size += head.length + encoded.length + bytes.length;
    this.#count += 1;
  }

  close() {
    const directory = new Blob(this.#directory);
    const end = record(
      0x06054b50, [2, 0], [2, 0], [2, this.#count], [2, this.#count],
      [4, directory.size], [4, this.#size], [2, 0],
    );
    return new Blob([...this.#parts, directory, end], { type: "application/zip" });
  }
}
