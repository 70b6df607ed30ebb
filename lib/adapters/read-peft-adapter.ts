import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { TokenmillError } from "../errors";
import { describeError } from "../sources/failure";
import type { AdapterEntry, AdapterFile } from "./adapter-spec";
import { type PeftConfig, parsePeftConfig, rankMaximum, scalesOf } from "./peft-config";
import { readSafetensors, type StoredTensor } from "./safetensors";

/** What an adapter's folder holds. */
export const peftFiles = { config: "adapter_config.json", weights: "adapter_model.safetensors" } as const;

const configBytesMaximum = 1 << 20;

async function readConfig(folder: string): Promise<PeftConfig> {
  const path = join(folder, peftFiles.config);
  try {
    const { size } = await stat(path);
    if (size > configBytesMaximum) {
      throw new TokenmillError(
        "CorruptFile",
        `${path} has ${size} bytes; at most ${configBytesMaximum} are read`,
      );
    }
    return parsePeftConfig(await readFile(path));
  } catch (error) {
    if (TokenmillError.isInstance(error)) throw error;
    throw new TokenmillError(
      "ModelNotFound",
      `${folder} has no ${peftFiles.config} that can be read (${describeError(error)}); an adapter's folder holds it ` +
        `and ${peftFiles.weights}`,
      { cause: error },
    );
  }
}

async function refuseOtherWeights(folder: string): Promise<void> {
  const isThere = (name: string) =>
    stat(join(folder, name)).then(
      () => true,
      () => false,
    );
  if ((await isThere(peftFiles.weights)) || !(await isThere("adapter_model.bin"))) return;
  throw new TokenmillError(
    "UnsupportedModel",
    `${folder} has adapter_model.bin, a Python program of a kind, and no ${peftFiles.weights}; save the adapter ` +
      "again with safe_serialization",
  );
}

const factorName = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/;
/** Saved beside the factors of heads and embeddings: the base model's own weights, quantized ones with their scales. */
const baseCopy = /\.base_layer\.(weight|bias)(\.[\w.]+)?$/;

/** Why a tensor that is no factor of a linear layer cannot be followed. */
function refuseTensor(name: string): TokenmillError {
  const [, why = "is neither lora_A nor lora_B of a module, nor known otherwise"] =
    (
      [
        [/lora_embedding_[AB]/, "belongs to an adapter of the embedding; linear layers alone can be adapted"],
        [/lora_magnitude_vector/, "belongs to DoRA, which cannot run"],
        [/lora_[AB]\.bias$/, "is a bias of a factor, which cannot run"],
        [
          /modules_to_save|(embed_tokens|lm_head|norm)\.weight$/,
          "replaces a module of the base model, which adapters here cannot; merge it with PEFT and convert the " +
            "model, or save it without (modules_to_save=None, save_embedding_layers=False)",
        ],
      ] as const
    ).find(([pattern]) => pattern.test(name)) ?? [];
  return new TokenmillError("UnsupportedModel", `tensor '${name}' of the adapter ${why}`);
}

interface Pair {
  a?: StoredTensor;
  b?: StoredTensor;
}

/** Whether a tensor is a factor; refuses those that are neither factors nor copies of the base model's weights. */
function isFactor(name: string): boolean {
  if (factorName.test(name)) return true;
  if (baseCopy.test(name)) return false;
  throw refuseTensor(name);
}

/** The factors by their module. */
function pairUp(tensors: StoredTensor[]): Map<string, Pair> {
  const pairs = new Map<string, Pair>();
  for (const tensor of tensors) {
    const [, module, side] = factorName.exec(tensor.name) ?? [];
    if (module === undefined) continue;
    const pair = pairs.get(module) ?? {};
    pair[side === "A" ? "a" : "b"] = tensor;
    pairs.set(module, pair);
  }
  return pairs;
}

function corrupt(what: string): TokenmillError {
  return new TokenmillError("CorruptFile", what);
}

/** Whether `targets` have a module's path or an end of it after a dot. */
function isTargeted(module: string, targets: ReadonlySet<string>): boolean {
  for (let at = 0; ; ) {
    if (targets.has(module.slice(at))) return true;
    const dot = module.indexOf(".", at);
    if (dot < 0) return false;
    at = dot + 1;
  }
}

function checkTargeted(module: string, targets: ReadonlySet<string> | undefined): void {
  if (targets === undefined || isTargeted(module, targets)) return;
  throw corrupt(
    `the adapter has factors of module '${module}', which 'target_modules' of ${peftFiles.config} does not name`,
  );
}

function toEntry(
  module: string,
  { a, b }: Pair,
  { rank, scale }: { rank: number; scale: number },
): AdapterEntry {
  if (a === undefined || b === undefined) {
    const [there, absent] = a === undefined ? [b, "lora_A"] : [a, "lora_B"];
    throw corrupt(`tensor '${there?.name}' of the adapter has no ${absent} beside it`);
  }
  for (const [tensor, found, what] of [
    [a, a.rows, "rows"],
    [b, b.cols, "columns"],
  ] as const) {
    if (found === rank) continue;
    throw corrupt(
      `tensor '${tensor.name}' has ${found} ${what}; ${peftFiles.config} gives its module rank ${rank}`,
    );
  }
  return { target: module, scale, a: factorOf(a), b: factorOf(b) };
}

function factorOf({ name: tensor, ...place }: StoredTensor) {
  return { tensor, ...place };
}

/**
 * Reads a folder as PEFT saves it, but for the factors' values.
 *
 * @throws TokenmillError ModelNotFound; CorruptFile, UnsupportedModel or UnsupportedQuantization naming the setting or
 *   the tensor at fault
 */
export async function readPeftAdapter(folder: string, name: string): Promise<AdapterFile> {
  const config = await readConfig(folder);
  await refuseOtherWeights(folder);
  const file = await readSafetensors(join(folder, peftFiles.weights), isFactor);
  const pairs = pairUp(file.tensors);
  if (pairs.size === 0) throw corrupt(`${file.path} has no factors`);
  const modules = [...pairs.keys()];
  const scales = scalesOf(config, modules);
  const entries = modules.map((module, position) => {
    checkTargeted(module, config.targets);
    return toEntry(module, pairs.get(module) ?? {}, scales[position] ?? { rank: rankMaximum, scale: 0 });
  });
  return {
    spec: { path: file.path, fileBytes: file.bytes, names: "modules", architecture: "", entries },
    format: "peft",
    name,
    baseModel: config.baseModel,
    alpha: config.alpha,
  };
}
