import type { ModelInfo } from "./model";
import type { NativeDevice, NativeModelInfo } from "./native";

function describeDevice(device: NativeDevice, missing: string | undefined): ModelInfo["device"] {
  if (device.type === "cuda") return device;
  const { problem, ...cpu } = device;
  const noGpu = problem || missing;
  return { ...cpu, reason: noGpu ? `${cpu.reason}; no GPU: ${noGpu}` : cpu.reason };
}

/**
 * What users see of a loaded model; `fallbackName` is for files that do not name theirs, `missing` is why no GPU was
 * looked for.
 */
export function describeModel(info: NativeModelInfo, fallbackName: string, missing?: string): ModelInfo {
  return Object.freeze({
    name: info.name || fallbackName,
    path: info.path,
    architecture: info.architecture,
    parameters: info.parameters,
    fileBytes: info.fileBytes,
    quantization: info.quantization,
    contextLength: info.contextLength,
    trainedContextLength: info.trainedContextLength,
    vocabularySize: info.tokenizer.vocabularySize,
    embeddingLength: info.embeddingLength,
    layers: info.layers,
    device: Object.freeze(describeDevice(info.device, missing)),
    capabilities: Object.freeze({
      generate: true,
      chat: info.chatTemplate !== "",
      score: true,
      embed: false,
    }),
    ...(info.chatTemplate ? { chatTemplate: info.chatTemplate } : {}),
  });
}
