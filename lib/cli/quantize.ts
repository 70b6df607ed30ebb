import { quantizeModel } from "../quantize-model";
import { fileTypeOf, writeModelFile } from "./written-model";

/** The options of `tokenmill quantize`, as commander names them. */
export interface QuantizeCommandOptions {
  type: string;
  pure?: boolean;
  allowRequantize?: boolean;
  force?: boolean;
  threads?: number;
  json?: boolean;
}

/** `tokenmill quantize`: writes a model in another type. */
export async function quantize(
  source: string,
  output: string,
  { json, force, type: name, ...options }: QuantizeCommandOptions,
): Promise<void> {
  const type = fileTypeOf(name);
  await writeModelFile(json === true, (progress) =>
    quantizeModel(source, output, { ...options, type, overwrite: force === true, ...progress }),
  );
}
