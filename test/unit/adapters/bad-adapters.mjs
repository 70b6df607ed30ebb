// Adapters that must be refused, each made from a good one by one change.
import { factorsOf, layOut, peftConfig, safetensors } from "../../support/adapters.mjs";

/** Modules of the tiny llama model that the good adapter changes, with their matrices' [rows, columns]. */
const shapes = {
  "model.layers.0.self_attn.q_proj": [64, 64],
  "model.layers.1.self_attn.v_proj": [32, 64],
  "model.layers.1.mlp.down_proj": [64, 192],
};
const rank = 4;
const [qA, qB, vA, vB] = factorsOf(shapes, rank).map(({ name }) => name);

/** The files of the good adapter, with these tensors besides. */
export function goodAdapter(more = []) {
  return { config: peftConfig(), weights: weightsOf([...factorsOf(shapes, rank), ...more]) };
}

function weightsOf(tensors) {
  const { header, data } = layOut(tensors);
  return safetensors(header, data);
}

const withConfig = (settings) => () => ({ ...goodAdapter(), config: peftConfig(settings) });

/** The good adapter with its header changed; `change` may give the header's text, or another header. */
const withHeader = (change) => () => {
  const { header, data } = layOut(factorsOf(shapes, rank));
  return { ...goodAdapter(), weights: safetensors(change(header, data) ?? header, data) };
};

/** The good adapter with a header entry changed. */
const withEntry = (name, change) =>
  withHeader((header) => void Object.assign(header[name], change(header[name])));

/** The good adapter with its tensors changed, and laid out soundly. */
const withTensors = (change, settings) => () => {
  const tensors = factorsOf(shapes, rank);
  return { config: peftConfig(settings), weights: weightsOf(change(tensors) ?? tensors) };
};

const withWeights = (change) => () => ({ ...goodAdapter(), weights: change(goodAdapter().weights) });
const renamed = (from, to) =>
  withTensors(
    (tensors) =>
      void Object.assign(
        tensors.find(({ name }) => name === from),
        { name: to },
      ),
  );
const reshaped = (name, shape) =>
  withTensors((tensors) => {
    const bytes = 4 * shape.reduce((product, size) => product * size, 1);
    Object.assign(
      tensors.find((tensor) => tensor.name === name),
      { shape, data: Buffer.alloc(bytes) },
    );
  });
const valued = (name, value, index = 5) =>
  withTensors(
    (tensors) => void tensors.find((tensor) => tensor.name === name).data.writeFloatLE(value, 4 * index),
  );

const zeros = (name, shape) => ({
  name,
  dtype: "F32",
  shape,
  data: Buffer.alloc(4 * shape.reduce((a, b) => a * b, 1)),
});
const added = (name, shape) => withTensors((tensors) => [...tensors, zeros(name, shape)]);

const corrupt = (name, files, message) => ({ name, files, code: "CorruptFile", message });
const unsupported = (name, files, message) => ({ name, files, code: "UnsupportedModel", message });
const foreign = (name, files, message) => ({ name, files, code: "Incompatible", message });

const badFiles = [
  {
    name: "no configuration",
    code: "ModelNotFound",
    message: /no adapter_config\.json/,
    files: () => ({ ...goodAdapter(), config: undefined }),
  },
  {
    name: "no weights",
    code: "ModelNotFound",
    message: /adapter_model\.safetensors cannot be read/,
    files: () => ({ ...goodAdapter(), weights: undefined }),
  },
  unsupported(
    "weights in a pickle",
    () => ({ ...goodAdapter(), weights: undefined, others: { "adapter_model.bin": "x" } }),
    /adapter_model\.bin/,
  ),
  corrupt(
    "empty weights",
    withWeights(() => Buffer.alloc(0)),
    /has 0 bytes/,
  ),
  corrupt(
    "weights of 7 bytes",
    withWeights((bytes) => bytes.subarray(0, 7)),
    /has 7 bytes/,
  ),
  corrupt(
    "truncated in the header",
    withWeights((bytes) => bytes.subarray(0, 300)),
    /states a header of/,
  ),
  corrupt(
    "truncated in the data",
    withWeights((bytes) => bytes.subarray(0, -4)),
    /tensor '.*down_proj\.lora_B.weight' ends at/,
  ),
  corrupt(
    "bytes behind the data",
    withWeights((bytes) => Buffer.concat([bytes, Buffer.alloc(4)])),
    /4 bytes behind tensor '.*down_proj\.lora_B/,
  ),
];

const badHeaders = [
  corrupt(
    "a header of 1 TB",
    withWeights((bytes) => {
      bytes.writeBigUInt64LE(10n ** 12n);
      return bytes;
    }),
    /header of 1000000000000 bytes/,
  ),
  corrupt(
    "a header of 2^64 - 1 bytes",
    withWeights((bytes) => {
      bytes.writeBigUInt64LE(2n ** 64n - 1n);
      return bytes;
    }),
    /header of 18446744073709551615 bytes/,
  ),
  corrupt(
    "a header shorter than its text",
    withWeights((bytes) => {
      bytes.writeBigUInt64LE(bytes.readBigUInt64LE() - 3n);
      return bytes;
    }),
    /is not sound JSON/,
  ),
  corrupt(
    "a header longer than its text",
    withWeights((bytes) => {
      bytes.writeBigUInt64LE(bytes.readBigUInt64LE() + 64n);
      return bytes;
    }),
    /JSON/,
  ),
  corrupt(
    "a header that is a list",
    withHeader(() => "[]"),
    /does not begin with '\{'/,
  ),
  corrupt(
    "a header that is no JSON",
    withHeader(() => "{tensors}"),
    /is not sound JSON/,
  ),
  corrupt(
    "a header that is no UTF-8",
    withWeights((bytes) => {
      bytes[20] = 0xff;
      return bytes;
    }),
    /is not UTF-8/,
  ),
  corrupt(
    "a tensor twice",
    withHeader((header) => JSON.stringify(header).replace(vB, vA)),
    new RegExp(`"${vA}" comes twice`),
  ),
  corrupt(
    "a key of a tensor twice",
    withHeader((header) => JSON.stringify(header).replace('"dtype":"F32"', '"dtype":"F32","dtype":"F32"')),
    new RegExp(`"${qA}" → "dtype" comes twice`),
  ),
  corrupt(
    "metadata that is no map of strings",
    withHeader((header) => void Object.assign(header, { __metadata__: { format: 1 } })),
    /__metadata__/,
  ),
  corrupt(
    "a tensor that is a number",
    withHeader((header) => void Object.assign(header, { [qB]: 1 })),
    new RegExp(`'${qB}'`),
  ),
  corrupt(
    "a tensor with a key too many",
    withEntry(qB, () => ({ more: 1 })),
    new RegExp(`'${qB}' with other keys`),
  ),
  corrupt(
    "a name that would move a terminal's cursor",
    withHeader((header) => void Object.assign(header, { "\u001b[2J": header[qA] })),
    /named "\\u001b\[2J"/,
  ),
  corrupt(
    "a tensor of 1 TB",
    withEntry(qB, () => ({ shape: [2 ** 38, 1], data_offsets: [1024, 1024 + 2 ** 40] })),
    /overlap|gap|ends at/,
  ),
  corrupt(
    "a shape whose product overflows",
    withEntry(qB, () => ({ shape: [2 ** 52, 2 ** 52] })),
    new RegExp(`'${qB}'`),
  ),
  corrupt(
    "a negative length",
    withEntry(qB, () => ({ shape: [-64, -4] })),
    new RegExp(`'${qB}' with a shape`),
  ),
  corrupt(
    "a broken length",
    withEntry(qB, () => ({ shape: [64.5, 4] })),
    new RegExp(`'${qB}' with a shape`),
  ),
  corrupt(
    "offsets beyond what a double holds",
    withEntry(qB, () => ({ data_offsets: [2 ** 60, 2 ** 60 + 1024] })),
    new RegExp(`'${qB}' with data_offsets`),
  ),
  corrupt(
    "offsets that go backwards",
    withEntry(qB, () => ({ data_offsets: [2048, 1024] })),
    new RegExp(`'${qB}' with data_offsets`),
  ),
  corrupt(
    "three offsets",
    withEntry(qB, () => ({ data_offsets: [1024, 2048, 3072] })),
    new RegExp(`'${qB}' with data_offsets`),
  ),
  corrupt(
    "a shape that its bytes do not hold",
    withEntry(qB, () => ({ shape: [65, 4] })),
    new RegExp(`'${qB}' of 65 × 4 F32`),
  ),
  corrupt(
    "an overlap",
    withEntry(vA, ({ data_offsets: [begin, end] }) => ({ data_offsets: [begin - 4, end - 4] })),
    new RegExp(`overlap of 4 bytes between tensor '${qB}' and tensor '${vA}'`),
  ),
  corrupt(
    "a gap",
    withEntry(vA, ({ data_offsets: [begin, end] }) => ({ data_offsets: [begin + 4, end + 4] })),
    new RegExp(`gap of 4 bytes between tensor '${qB}' and tensor '${vA}'`),
  ),
  corrupt(
    "the same bytes twice",
    withEntry(vA, () => ({ data_offsets: [0, 1024] })),
    /overlap/,
  ),
  {
    name: "a type of 8 bits",
    code: "UnsupportedQuantization",
    message: new RegExp(`'${qA}' has type "F8_E4M3"`),
    files: withEntry(qA, () => ({ dtype: "F8_E4M3" })),
  },
  {
    name: "a type of 64 bits",
    code: "UnsupportedQuantization",
    message: new RegExp(`'${qA}' has type "F64"`),
    files: withEntry(qA, () => ({ dtype: "F64" })),
  },
  corrupt(
    "a type that is a number",
    withEntry(qA, () => ({ dtype: 4 })),
    new RegExp(`'${qA}' with a dtype`),
  ),
  unsupported(
    "a vector",
    withEntry(qA, () => ({ shape: [256] })),
    new RegExp(`'${qA}' has 1 dimensions`),
  ),
  unsupported(
    "a tensor of three dimensions",
    withEntry(qA, () => ({ shape: [2, 2, 64] })),
    new RegExp(`'${qA}' has 3 dimensions`),
  ),
];

const badConfigs = [
  corrupt(
    "a configuration that is no JSON",
    () => ({ ...goodAdapter(), config: "r = 8" }),
    /adapter_config\.json is not sound JSON/,
  ),
  corrupt("a configuration that is a list", () => ({ ...goodAdapter(), config: "[]" }), /not an object/),
  corrupt(
    "a setting twice",
    () => ({ ...goodAdapter(), config: '{"peft_type":"LORA","r":4,"r":8}' }),
    /"r" comes twice/,
  ),
  corrupt(
    "NaN as alpha",
    () => ({ ...goodAdapter(), config: '{"peft_type":"LORA","r":4,"lora_alpha":NaN}' }),
    /"lora_alpha" is no value/,
  ),
  corrupt("alpha that no float holds", withConfig({ lora_alpha: 1e300 }), /'lora_alpha'/),
  corrupt("no alpha", withConfig({ lora_alpha: undefined }), /'lora_alpha'/),
  corrupt("rank 0", withConfig({ r: 0 }), /'r' that is not a whole number from 1/),
  corrupt("rank 0 in a pattern", withConfig({ rank_pattern: { q_proj: 0 } }), /'rank_pattern: q_proj'/),
  unsupported("rank 257", withConfig({ r: 257 }), /'r': 257/),
  corrupt("no peft_type", withConfig({ peft_type: undefined }), /'peft_type'/),
  unsupported("another method", withConfig({ peft_type: "IA3" }), /'peft_type': "IA3"/),
  unsupported("biases", withConfig({ bias: "lora_only" }), /'bias': "lora_only"/),
  unsupported("DoRA", withConfig({ use_dora: true }), /'use_dora'/),
  unsupported("biases of factors", withConfig({ lora_bias: true }), /'lora_bias'/),
  unsupported(
    "modules to save",
    withConfig({ modules_to_save: ["lm_head"] }),
    /'modules_to_save': \["lm_head"\]/,
  ),
  unsupported("trained tokens", withConfig({ trainable_token_indices: [1, 2] }), /'trainable_token_indices'/),
  unsupported(
    "a base with changed weights",
    withConfig({ init_lora_weights: "pissa_niter_16" }),
    /'init_lora_weights'/,
  ),
  ...["OLoRA", "MiCA", "PISSA", "LoftQ", "lora_GA"].map((value) =>
    unsupported(
      `a base with changed weights, called ${value}`,
      withConfig({ init_lora_weights: value }),
      new RegExp(`'init_lora_weights': "${value}"`),
    ),
  ),
  unsupported(
    "a pattern that would move a terminal's cursor",
    withConfig({ rank_pattern: { "(\u009b2J\u001b[2J": 8 } }),
    /"\(\ufffd2J\\u001b\[2J" in 'rank_pattern'/,
  ),
  corrupt(
    "a pattern of control characters without a rank",
    withConfig({ rank_pattern: { "\u001b[2J": 0 } }),
    /'rank_pattern: \ufffd\[2J'/,
  ),
  unsupported("a setting of control characters", withConfig({ bias: "\u009b2J" }), /'bias': "\ufffd2J"/),
  corrupt(
    "a key of control characters twice",
    () => ({ ...goodAdapter(), config: '{"\u009b":1,"\u009b":2}' }),
    /"\ufffd" comes twice/,
  ),
  unsupported("repeated layers", withConfig({ layer_replication: [[0, 1]] }), /'layer_replication'/),
  unsupported(
    "a pattern that is no expression",
    withConfig({ rank_pattern: { "(q_proj": 8 } }),
    /"\(q_proj" in 'rank_pattern'/,
  ),
  unsupported(
    "a pattern of Python alone",
    withConfig({ alpha_pattern: { "(?P<x>q_proj)": 8 } }),
    /'alpha_pattern'/,
  ),
  unsupported(
    "a pattern that takes for ever",
    withConfig({ rank_pattern: { "([a-z0-9._]+)+!": 8 } }),
    /took longer/,
  ),
  corrupt(
    "a target that is not named",
    withConfig({ target_modules: ["q_proj", "v_proj"] }),
    /module 'model\.layers\.1\.mlp\.down_proj'/,
  ),
];

const badTensors = [
  corrupt(
    "a rank that the configuration does not give",
    withConfig({ r: 8 }),
    new RegExp(`'${qA}' has 4 rows.*rank 8`),
  ),
  corrupt(
    "a rank that its pattern does not give",
    withConfig({ rank_pattern: { "1.self_attn.v_proj": 2 } }),
    new RegExp(`'${vA}' has 4 rows.*rank 2`),
  ),
  corrupt("factors of two ranks", reshaped(vB, [32, 3]), new RegExp(`'${vB}' has 3 columns`)),
  corrupt(
    "A without B",
    withTensors((tensors) => tensors.filter(({ name }) => name !== qB)),
    new RegExp(`'${qA}' of the adapter has no lora_B`),
  ),
  corrupt(
    "B without A",
    withTensors((tensors) => tensors.filter(({ name }) => name !== qA)),
    new RegExp(`'${qB}' of the adapter has no lora_A`),
  ),
  corrupt(
    "no tensors",
    withTensors(() => []),
    /has no factors/,
  ),
  corrupt("NaN in a factor", valued(qA, Number.NaN), new RegExp(`'${qA}' has the value nan in row 0`)),
  corrupt(
    "an infinity in a factor",
    valued(vB, Number.POSITIVE_INFINITY, 9),
    new RegExp(`'${vB}' has the value inf in row 2`),
  ),
  unsupported(
    "a module of its own",
    added("base_model.model.lm_head.weight", [320, 64]),
    /'base_model\.model\.lm_head\.weight'.*replaces a module/,
  ),
  unsupported(
    "an adapter of the embedding",
    added("base_model.model.model.embed_tokens.lora_embedding_A", [4, 320]),
    /lora_embedding_A'.*embedding/,
  ),
  unsupported(
    "a magnitude",
    added("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight", [64, 1]),
    /lora_magnitude_vector.*DoRA/,
  ),
  unsupported(
    "a magnitude that is a vector",
    added("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", [64]),
    /lora_magnitude_vector.*DoRA/,
  ),
  unsupported(
    "a bias of a factor",
    added("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", [64]),
    /lora_B\.bias.*is a bias of a factor/,
  ),
  corrupt(
    "more tensors than any model has",
    withHeader((header) => {
      for (let i = 0; i < 40_000; ++i) header[`t${i}`] = header[qA];
    }),
    /has 400\d\d tensors; at most 32768/,
  ),
  unsupported(
    "a tensor that nobody knows",
    added("base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight", [4, 4]),
    /lora_C\.weight' of the adapter is neither/,
  ),
  unsupported(
    "a name without PEFT's prefix",
    renamed(qA, "model.layers.0.self_attn.q_proj.lora_A.weight"),
    /'model\.layers\.0.*neither/,
  ),
];

const badTargets = [
  foreign(
    "columns of another model",
    withTensors(() => factorsOf({ "model.layers.0.self_attn.q_proj": [64, 128] }, rank)),
    new RegExp(`'${qA}' of the adapter is \\[4, 128\\]; for 'blk\\.0\\.attn_q\\.weight'`),
  ),
  foreign(
    "rows of another model",
    withTensors(() => factorsOf({ "model.layers.0.self_attn.q_proj": [128, 64] }, rank)),
    new RegExp(`'${qB}' of the adapter is \\[128, 4\\]`),
  ),
  foreign(
    "a layer that the model lacks",
    withTensors(() => factorsOf({ "model.layers.2.self_attn.q_proj": [64, 64] }, rank)),
    /'model\.layers\.2\.self_attn\.q_proj' of the adapter is no linear layer/,
  ),
  foreign(
    "a module that the family lacks",
    withTensors(() => factorsOf({ "model.layers.0.self_attn.qkv_proj": [64, 64] }, rank), {
      target_modules: ["qkv_proj"],
    }),
    /qkv_proj' of the adapter is no linear layer/,
  ),
  foreign(
    "a layer's number that is none",
    withTensors(() => factorsOf({ "model.layers.x.self_attn.q_proj": [64, 64] }, rank)),
    /layers\.x\.self/,
  ),
  unsupported(
    "the embedding as a target",
    withTensors(() => factorsOf({ "model.embed_tokens": [320, 64] }, rank), {
      target_modules: ["embed_tokens"],
    }),
    /'model\.embed_tokens' of the adapter is the embedding/,
  ),
  corrupt(
    "a matrix under two names",
    withTensors(() =>
      factorsOf(
        {
          "model.layers.0.self_attn.q_proj": [64, 64],
          "model.language_model.layers.0.self_attn.q_proj": [64, 64],
        },
        rank,
      ),
    ),
    /changes 'blk\.0\.attn_q\.weight', which another one does too/,
  ),
];

/** Rows of { name, files(), code, message }: what is wrong, the folder's files, and the error that it gives. */
export const badAdapters = [...badFiles, ...badHeaders, ...badConfigs, ...badTensors, ...badTargets];
