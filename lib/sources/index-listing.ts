import { DownloadFailure } from "./failure";

/** A file that a package index offers. */
export interface ReleaseFile {
  filename: string;
  /** The package's and the release's name, from the file's. */
  distribution: string;
  version: string;
  url: URL;
  sha256?: string;
  bytes?: number;
  isYanked: boolean;
}

function releaseFile(
  filename: string,
  href: string,
  base: URL,
  facts: { sha256?: unknown; bytes?: unknown; isYanked: boolean },
): ReleaseFile[] {
  const [distribution = "", version = ""] = filename.split("-");
  // The name becomes part of a path.
  if (!/^[\w.+!-]+\.whl$/.test(filename) || !URL.canParse(href, base.href)) return [];
  const url = new URL(href, base);
  const [, fromFragment] = /^#sha256=([0-9a-f]{64})$/i.exec(url.hash) ?? [];
  url.hash = "";
  const sha256 = typeof facts.sha256 === "string" ? facts.sha256 : fromFragment;
  const { bytes, isYanked } = facts;
  return [
    {
      filename,
      distribution,
      version,
      url,
      isYanked,
      ...(sha256 === undefined ? {} : { sha256: sha256.toLowerCase() }),
      ...(Number.isSafeInteger(bytes) ? { bytes: bytes as number } : {}),
    },
  ];
}

interface JsonFile {
  filename?: unknown;
  url?: unknown;
  hashes?: { sha256?: unknown };
  size?: unknown;
  yanked?: unknown;
}

/** Reads a listing as PEP 691 defines it. `base` is the listing's own address. */
export function readJsonListing(text: string, base: URL): ReleaseFile[] {
  let files: unknown;
  try {
    files = (JSON.parse(text) as { files?: unknown } | null)?.files;
  } catch (error) {
    throw new DownloadFailure("refused", `${base.host} sent a listing that is not JSON`, { cause: error });
  }
  if (!Array.isArray(files))
    throw new DownloadFailure("refused", `${base.host} sent a listing without files`);
  return files.flatMap((file: JsonFile | null) => {
    if (typeof file?.filename !== "string" || typeof file.url !== "string") return [];
    const facts = { sha256: file.hashes?.sha256, bytes: file.size, isYanked: Boolean(file.yanked) };
    return releaseFile(file.filename, file.url, base, facts);
  });
}

const entities: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", "#x27": "'" };

function decodeEntities(text: string): string {
  return text.replace(/&(amp|lt|gt|quot|#39|#x27);/g, (_, name: string) => entities[name] ?? "");
}

/** Reads a listing as PEP 503 defines it: one anchor a file. */
export function readHtmlListing(text: string, base: URL): ReleaseFile[] {
  return [...text.matchAll(/<a\s([^>]*)>([^<]*)<\/a>/gi)].flatMap(([, attributes = "", label = ""]) => {
    const [, double, single] = /\bhref\s*=\s*(?:"([^"]*)"|'([^']*)')/i.exec(attributes) ?? [];
    const href = decodeEntities(double ?? single ?? "");
    const isYanked = /\bdata-yanked\b/i.test(attributes);
    return releaseFile(decodeEntities(label).trim(), href, base, { isYanked });
  });
}
