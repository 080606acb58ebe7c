// Lists of tasks on stdin, one JSON line each; their results on stdout, likewise. The arguments are
// the verifier's folder and, to take crypto.subtle away, `--without-subtle`.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { perform } from "./verifier_tasks.js";

const [folder, without] = process.argv.slice(2);
if (without === "--without-subtle") {
  Object.defineProperty(globalThis, "crypto", { value: { getRandomValues: undefined } });
}
for await (const line of createInterface({ input: process.stdin })) {
  const results = await perform(pathToFileURL(folder).href, JSON.parse(line));
  process.stdout.write(`${JSON.stringify(results)}\n`);
}
