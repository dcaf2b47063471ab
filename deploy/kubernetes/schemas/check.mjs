// Checks the manifests of the Prometheus operator against the schemas of its own resource definitions.
//
// Usage: node check.mjs DIRECTORY. Needs the npm package `@kubernetes-models/prometheus-operator` where it is run from.
import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const directory = resolve(process.argv[2]);
const installed = resolve("node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index.js");
const models = await import(pathToFileURL(installed));

let checked = 0;
let failed = 0;
for (const file of readdirSync(directory).sort()) {
  const manifest = JSON.parse(readFileSync(join(directory, file), "utf8"));
  if (!manifest.apiVersion.startsWith("monitoring.coreos.com/")) continue;
  checked += 1;
  try {
    new models[manifest.kind](manifest).validate();
  } catch (error) {
    failed += 1;
    console.error(`${file}: ${error.message}`);
  }
}
console.log(`manifests: ${checked} checked against the Prometheus operator's definitions, ${failed} problems`);
process.exit(failed || !checked ? 1 : 0);
