import { mergeAdapter } from "../merge-adapter";
import { fileTypeOf, writeModelFile } from "./written-model";

/** The options of `tokenmill merge`, as commander names them. */
export interface MergeCommandOptions {
  type?: string;
  scale?: number;
  force?: boolean;
  threads?: number;
  json?: boolean;
}

/** `tokenmill merge`: writes a model with an adapter merged into its weights. */
export async function merge(
  model: string,
  adapter: string,
  output: string,
  { json, force, type: name, ...options }: MergeCommandOptions,
): Promise<void> {
  const type = name === undefined ? {} : { type: fileTypeOf(name) };
  await writeModelFile(json === true, (progress) =>
    mergeAdapter(model, adapter, output, { ...options, ...type, overwrite: force === true, ...progress }),
  );
}
