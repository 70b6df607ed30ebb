import type { TransferContext } from "./download-file";
import { DownloadFailure } from "./failure";
import { type ReleaseFile, readHtmlListing, readJsonListing } from "./index-listing";
import { type Authorization, describeNetworkFailure, describeRefusal, type Response } from "./network";
import { runPip } from "./python";
import { newestVersion } from "./release-version";
import { withRetries } from "./retry";
import type { WheelMember } from "./source";

const publicIndex = "https://pypi.org/simple";
const listingBytesMaximum = 32 << 20;

/** A Python package index: PEP 503 (HTML) and PEP 691 (JSON). */
export interface PackageIndex {
  /** Ends with a slash; without user and password. */
  url: URL;
  authorization?: Authorization;
}

/** The index that pip is configured for on this machine, if it says so. */
async function configuredIndex(signal: AbortSignal): Promise<string | undefined> {
  const fromEnvironment =
    process.env.PIP_INDEX_URL || process.env.UV_DEFAULT_INDEX || process.env.UV_INDEX_URL;
  if (fromEnvironment) return fromEnvironment;
  try {
    const text = await runPip(["config", "get", "global.index-url"], { signal, timeoutMs: 10_000 });
    return text.trim() || undefined;
  } catch {
    return undefined; // Nothing configured, or there is no pip.
  }
}

export async function findPackageIndex(signal: AbortSignal): Promise<PackageIndex> {
  const text = (await configuredIndex(signal)) ?? publicIndex;
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new DownloadFailure("unreachable", `The package index "${text}" is not an http(s) URL`);
  }
  const url = new URL(text);
  const { username, password } = url;
  url.username = "";
  url.password = "";
  url.pathname = url.pathname.replace(/\/*$/, "/");
  if (username === "") return { url };
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const value = `Basic ${Buffer.from(credentials).toString("base64")}`;
  return { url, authorization: { origin: url.origin, value } };
}

async function readText(response: Response, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > listingBytesMaximum) {
        throw new DownloadFailure(
          "refused",
          `The listing at ${response.url.host} exceeds ${listingBytesMaximum} bytes`,
        );
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw describeNetworkFailure(error, response.url, signal);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function normalizeName(name: string): string {
  return name.toLowerCase().replace(/[-_.]+/g, "-");
}

async function listFiles(
  index: PackageIndex,
  name: string,
  context: TransferContext,
): Promise<ReleaseFile[]> {
  const { network, signal } = context;
  const url = new URL(`${normalizeName(name)}/`, index.url);
  const headers = { accept: "application/vnd.pypi.simple.v1+json, text/html;q=0.1" };
  const response = await network.get(url, { headers, authorization: index.authorization, signal });
  if (response.status !== 200) throw await describeRefusal(response);
  const text = await readText(response, signal);
  const isJson = /[/+]json\b/.test(response.headers["content-type"] ?? "");
  return isJson ? readJsonListing(text, response.url) : readHtmlListing(text, response.url);
}

/** Finds the wheel that fits every machine, of the wanted version. */
export async function findWheel(
  index: PackageIndex,
  { package: name, version }: WheelMember,
  context: TransferContext,
): Promise<ReleaseFile> {
  const files = await withRetries(() => listFiles(index, name, context), context);
  const wheels = files.filter(
    (file) =>
      /-none-any\.whl$/.test(file.filename) && normalizeName(file.distribution) === normalizeName(name),
  );
  const offered = wheels.filter((file) => !file.isYanked).map((file) => file.version);
  const wanted = version ?? newestVersion(offered);
  const found = wheels.find((file) => file.version === wanted);
  if (found !== undefined) return found;
  const versions = [...new Set(offered)].join(", ") || "none";
  const release = version === undefined ? name : `${name} ${version}`;
  throw new DownloadFailure(
    "refused",
    `${index.url.host} has no wheel of ${release} for any platform; versions there: ${versions}`,
    { status: 404 },
  );
}
