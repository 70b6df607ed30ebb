// A cache folder and an environment of a test's own.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

const variables = [
  ...["TOKENMILL_CACHE", "TOKENMILL_MIRRORS", "TOKENMILL_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"],
  ...["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"],
  ...["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE", "PIP_NO_INDEX"],
  ...["UV_DEFAULT_INDEX", "UV_INDEX_URL"],
];

/**
 * Nothing of the machine's configuration; a hub and an index that nobody serves, unless `settings` names
 * them.
 */
export function sandboxEnvironment(cache, settings = {}) {
  const nowhere = "http://127.0.0.1:9";
  return {
    TOKENMILL_CACHE: cache,
    HF_ENDPOINT: nowhere,
    PIP_INDEX_URL: `${nowhere}/simple`,
    PIP_CONFIG_FILE: process.platform === "win32" ? "nul" : "/dev/null",
    ...settings,
  };
}

/** Sets the environment until the test ends; gives the cache folder. */
export function useSandbox(t, settings = {}) {
  const folder = mkdtempSync(join(tmpdir(), "tokenmill-sources-"));
  const before = Object.fromEntries(variables.map((name) => [name, process.env[name]]));
  for (const name of variables) delete process.env[name];
  Object.assign(process.env, sandboxEnvironment(folder, settings));
  t.after(() => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

/** A child's environment: this process's without what would reach the network. */
export function childEnvironment(cache, settings = {}) {
  const inherited = Object.entries(process.env).filter(([name]) => !variables.includes(name));
  return { ...Object.fromEntries(inherited), ...sandboxEnvironment(cache, settings) };
}

/** Files below a folder, relative to it, sorted. */
export function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath ?? entry.path, entry.name)).replaceAll("\\", "/"))
    .sort();
}
