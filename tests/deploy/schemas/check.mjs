// Checks custom resources against the types of their operators. Reads a JSON list of objects from
// standard input, and prints a JSON list of problems.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PodMonitor, PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1";

const MODELS = {
  PodMonitor: [PodMonitor, "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"],
  PrometheusRule: [PrometheusRule, "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"],
  ScaledObject: [ScaledObject, "@kubernetes-models/keda/keda.sh/v1alpha1"],
};

// The validators accept unknown fields, and an operator drops them silently. Their declarations name
// all fields: interface -> field -> type.
function interfaces(module) {
  const found = {};
  const folder = dirname(fileURLToPath(import.meta.resolve(module)));
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".d.ts"))) {
    let current;
    for (const line of readFileSync(join(folder, file), "utf8").split("\n")) {
      const start = line.match(/^export interface (\w+)/);
      if (start) current = found[start[1]] = {};
      const field = line.match(/^    "(\w+)"\??: (.*?);?$/);
      if (field && current) current[field[1]] = field[2];
      if (line === "}") current = undefined;
      // Other files use long names: `export type { IPodMonitorSpec as IComGithub...PodMonitorSpec, ... }`.
      const alias = line.match(/^export type \{ (\w+) as (\w+)/);
      if (alias) found[alias[2]] = found[alias[1]];
    }
  }
  return found;
}

function unknown(value, type, types, path) {
  if (Array.isArray(value)) return value.flatMap((item, at) => unknown(item, type, types, `${path}/${at}`));
  const name = Object.keys(types).find((known) => new RegExp(`\\b${known}\\b`).test(type));
  if (!name || typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) =>
    key in types[name] ? unknown(item, types[name][key], types, `${path}/${key}`) : [`${path}: unknown field ${key}`],
  );
}

const problems = [];
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const [Model, module] = MODELS[object.kind];
  try {
    new Model(object).validate();
  } catch (error) {
    problems.push(`${object.kind}: ${error.message}`);
  }
  problems.push(...unknown(object, `I${object.kind}`, interfaces(module), object.kind));
}
console.log(JSON.stringify(problems));
