// Run all cases of a program, at each target in turn; see run.py, which does the same.
//
//     run.mjs PROGRAM CLIENT OUTPUT

import { appendFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [program, client, output] = process.argv.slice(2);
const module = await import(pathToFileURL(program));
writeFileSync(output, "");
for (const [target, url] of Object.entries(JSON.parse(process.env.TARGETS))) {
  for (const [exported, run] of Object.entries(module)) {
    const name = exported.replace(/^case_/, "");
    const at = {
      url,
      v1: `${url}/v1`,
      client,
      key: "sk-client-key",
      say: (scenario) => `How cold is it? [${client}/${name}/${scenario}]`,
    };
    const began = performance.now();
    let seen;
    try {
      seen = await run(at);
    } catch (error) {
      seen = { raised: `${error?.constructor?.name}: ${error?.stack ?? error}` };
    }
    const seconds = Math.round(performance.now() - began) / 1000;
    appendFileSync(output, `${JSON.stringify({ target, case: name, seen, seconds })}\n`);
  }
}
process.exit(0); // kept connections would hold the process
