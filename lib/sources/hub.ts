import { TokenmillError } from "../errors";
import { downloadFile, type Expectation, type TransferContext } from "./download-file";
import { DownloadFailure } from "./failure";
import type { Authorization, Response } from "./network";
import type { HubFile } from "./source";
import type { FetchTarget } from "./target";

const publicHub = "https://huggingface.co";

/** The hub's address: HF_ENDPOINT, else the public one. */
export function hubEndpoint(): URL {
  const endpoint = process.env.HF_ENDPOINT || publicHub;
  if (URL.canParse(endpoint) && /^https?:$/.test(new URL(endpoint).protocol)) return new URL(endpoint);
  throw new TokenmillError("InvalidArgument", `HF_ENDPOINT must be an http(s) URL; got "${endpoint}"`);
}

function fileUrl(endpoint: URL, { owner, repository, revision, file }: HubFile): URL {
  const path = file.split("/").map(encodeURIComponent).join("/");
  const base = endpoint.href.replace(/\/+$/, "");
  return new URL(`${base}/${owner}/${repository}/resolve/${encodeURIComponent(revision)}/${path}`);
}

/** HF_TOKEN, for the hub's own origin alone: the storage that it redirects to must not see it. */
function authorization(endpoint: URL): Authorization | undefined {
  const token = process.env.HF_TOKEN?.trim();
  return token ? { origin: endpoint.origin, value: `Bearer ${token}` } : undefined;
}

/** Large files are redirected to storage, and the hub says with the redirect what they are. */
function readExpectation({ firstHeaders }: Response): Expectation {
  const etag = String(firstHeaders["x-linked-etag"] ?? "").replace(/^W\/|"/g, "");
  const bytes = String(firstHeaders["x-linked-size"] ?? "");
  return {
    ...(/^[0-9a-f]{64}$/.test(etag) ? { sha256: etag } : {}),
    ...(/^\d+$/.test(bytes) ? { bytes: Number(bytes) } : {}),
  };
}

function explainRefusal(error: unknown): unknown {
  if (!(error instanceof DownloadFailure) || (error.status !== 401 && error.status !== 403)) return error;
  const advice = process.env.HF_TOKEN
    ? "the token in HF_TOKEN may not read it; if the model is gated, accept its terms on the hub"
    : "it is private, gated or does not exist; set HF_TOKEN to a token that may read it";
  return new DownloadFailure("refused", `${error.message}: ${advice}`, {
    cause: error,
    status: error.status,
  });
}

/** Downloads a file from the hub to `target.path`. */
export async function fetchFromHub(
  file: HubFile,
  target: FetchTarget,
  context: TransferContext,
): Promise<void> {
  const endpoint = hubEndpoint();
  try {
    await downloadFile(
      {
        url: fileUrl(endpoint, file),
        authorization: authorization(endpoint),
        path: target.path,
        bytes: target.bytes,
        sha256: target.sha256,
        readExpectation,
      },
      context,
    );
  } catch (error) {
    throw explainRefusal(error);
  }
}
