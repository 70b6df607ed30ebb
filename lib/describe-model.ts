import type { ModelInfo } from "./model";
import type { NativeModelInfo } from "./native";

/** What users see of a loaded model; `fallbackName` is for files that do not name theirs. */
export function describeModel(info: NativeModelInfo, fallbackName: string): ModelInfo {
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
    device: Object.freeze({
      type: "cpu" as const,
      isa: info.isa,
      threads: info.threads,
      reason: info.isaReason,
    }),
    capabilities: Object.freeze({
      generate: true,
      chat: info.chatTemplate !== "",
      score: true,
      embed: false,
    }),
    ...(info.chatTemplate ? { chatTemplate: info.chatTemplate } : {}),
  });
}
