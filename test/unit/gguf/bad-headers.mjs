// GGUF files whose header alone shows that they are bad. Rows as in bad-files.mjs.

import { array, int32, string, u32, u64, uint32, writeGguf } from "./gguf-writer.mjs";

const metadata = [
  ["general.architecture", string("llama")],
  ["numbers", array("uint16", [1, 2, 3])],
  ["tokens", array("string", ["a", "bc"])],
];
const floats = { name: "floats", type: "F32", shape: [4, 2], data: Buffer.alloc(32, 1) };
const quantized = { name: "quantized", type: "Q4_0", shape: [32], data: Buffer.alloc(18, 2) };

/** The valid file that all others differ from. */
export const smallestValid = () => writeGguf({ metadata, tensors: [floats, quantized] });

const withMetadata = (...more) =>
  writeGguf({ metadata: [...metadata, ...more], tensors: [floats, quantized] });
const withTensor = (changes) => writeGguf({ metadata, tensors: [floats, { ...quantized, ...changes }] });
const withValue = (value) => withMetadata(["broken", value]);
const nothing = Buffer.alloc(0);

/** The valid file, cut off `bytes` after the end of the first `what` in it. */
function cutAfter(what, bytes = 0) {
  const file = smallestValid();
  const at = file.indexOf(what);
  if (at < 0) throw new Error(`the valid file does not contain ${what}`);
  return file.subarray(0, at + what.length + bytes);
}

/** Text in place of a whole file. */
const plain = (start) => Buffer.concat([Buffer.from(start), Buffer.alloc(100)]);

const notGguf = [
  ["an empty file", () => nothing, /the file is empty/],
  ["three bytes", () => Buffer.from("GGU"), /not a GGUF file: it starts with "GGU"/],
  ["another magic", () => writeGguf({ magic: "GGUX", metadata }), /it starts with "GGUX", expected "GGUF"/],
  ["a magic of zeros", () => Buffer.alloc(64), /it starts with "\\x00\\x00\\x00\\x00"/],
  ["a ZIP archive", () => plain("PK\x03\x04"), /PyTorch checkpoint/],
  ["a web page", () => plain("<!DOCTYPE html><html>"), /a web page/],
  ["a Git LFS pointer", () => plain("version https://git-lfs.github.com/spec/v1\n"), /a Git LFS pointer/],
  ["a safetensors file", () => Buffer.concat([u64(40), plain('{"__metadata__":{}}')]), /a safetensors file/],
  ["a GGJT file", () => plain("tjgg"), /the GGJT format, which GGUF replaced/],
];

const versions = [
  ["version 0", () => writeGguf({ version: 0, metadata }), /GGUF version 0 does not exist/],
  [
    "version 1",
    () => writeGguf({ version: 1, metadata }),
    /GGUF version 1 is not supported/,
    "UnsupportedModel",
  ],
  [
    "version 4",
    () => writeGguf({ version: 4, metadata }),
    /GGUF version 4 is not supported/,
    "UnsupportedModel",
  ],
  [
    "big-endian",
    () => writeGguf({ version: 0x03000000, metadata }),
    /a big-endian GGUF file/,
    "UnsupportedModel",
  ],
];

const incomplete = /the file ends at byte \d+, within its header/;
const truncations = [
  ["the magic", () => cutAfter("GGUF"), incomplete],
  ["half the version", () => cutAfter("GGUF", 2), incomplete],
  ["the tensor count", () => cutAfter("GGUF", 12), incomplete],
  ["the counts", () => cutAfter("GGUF", 20), /a count of 2 tensors/],
  ["the length of a key", () => cutAfter("llama", 4), /a count of 2 tensors/],
  ["half a key", () => cutAfter("numb"), /a count of 2 tensors/],
  ["a key", () => cutAfter("tokens"), incomplete],
  ["a value's type", () => cutAfter("tokens", 4), incomplete],
  ["an array's type", () => cutAfter("tokens", 8), incomplete],
  [
    "an array's count",
    () => cutAfter("tokens", 16),
    /an array of 2 values of type string, where 0 bytes remain/,
  ],
  ["half an array", () => cutAfter("tokens", 33), /metadata "tokens": a string of 2 bytes, where 0 remain/],
  ["the metadata", () => cutAfter("bc"), /a count of 2 tensors, where 0 bytes remain after the metadata/],
  ["half a tensor's name", () => cutAfter("quanti"), /a count of 2 tensors, where \d+ bytes remain/],
  ["a tensor's name", () => cutAfter("quantized"), /a count of 2 tensors, where \d+ bytes remain/],
  ["a tensor's rank", () => cutAfter("quantized", 4), incomplete],
  ["half a tensor's shape", () => cutAfter("quantized", 8), incomplete],
  ["a tensor's shape", () => cutAfter("quantized", 12), incomplete],
  ["a tensor's type", () => cutAfter("quantized", 16), incomplete],
  ["half a tensor's offset", () => cutAfter("quantized", 20), incomplete],
  ["the header", () => cutAfter("quantized", 24), /tensor "floats" needs 32 bytes at 0 of the data/],
  [
    "all but one byte",
    () => smallestValid().subarray(0, -1),
    /tensor "quantized" needs 18 bytes at 32 of the data/,
  ],
].map(([name, ...rest]) => [`cut off after ${name}`, ...rest]);

const counts = [
  [
    "2^64 - 1 tensors",
    () => writeGguf({ metadata, tensorCount: 2n ** 64n - 1n }),
    /a count of 18446744073709551615 tensors/,
  ],
  [
    "one tensor too many",
    () => writeGguf({ metadata, tensorCount: 1 }),
    /a count of 1 tensors, where 0 bytes remain/,
  ],
  [
    "2^63 metadata keys",
    () => writeGguf({ metadata, metadataCount: 2n ** 63n }),
    /a count of 9223372036854775808 metadata keys/,
  ],
  ["one metadata key too many", () => writeGguf({ metadata, metadataCount: 4 }), incomplete],
];

const keys = [
  ["an empty key", () => withMetadata(["", uint32(1)]), /a metadata key is empty/],
  [
    "a key of 2^63 bytes",
    () => withMetadata([{ length: 2n ** 63n, text: "key" }, uint32(1)]),
    /a metadata key of 9223372036854775808 bytes/,
  ],
  [
    "a key of 65536 bytes",
    () => withMetadata(["k".repeat(65536), uint32(1)]),
    /a metadata key of 65536 bytes; expected at most 65535/,
  ],
  ["a key longer than the file", () => withMetadata([{ length: 60000, text: "key" }, uint32(1)]), incomplete],
  [
    "a key with a stray continuation byte",
    () => withMetadata([Buffer.from("a\x80", "latin1"), uint32(1)]),
    /metadata key "a\\x80" is not valid UTF-8/,
  ],
  [
    "a key with an overlong character",
    () => withMetadata([Buffer.from([0xc0, 0xaf]), uint32(1)]),
    /metadata key "\\xc0\\xaf" is not valid UTF-8/,
  ],
  [
    "a key with a surrogate",
    () => withMetadata([Buffer.from([0xed, 0xa0, 0x80]), uint32(1)]),
    /is not valid UTF-8/,
  ],
  ["a repeated key", () => withMetadata(["numbers", uint32(1)]), /metadata key "numbers" is there twice/],
];

const values = [
  [
    "a value of type 13",
    () => withValue({ type: 13, value: nothing }),
    /metadata "broken" has the unknown type 13; expected 0 to 12/,
  ],
  [
    "a value of type 2^32 - 1",
    () => withValue({ type: 0xffffffff, value: nothing }),
    /has the unknown type 4294967295/,
  ],
  [
    "a string longer than the file",
    () => withValue(string({ length: 100000, text: "x" })),
    /a string of 100000 bytes, where \d+ remain/,
  ],
  [
    "a string of 2^64 - 1 bytes",
    () => withValue(string({ length: 2n ** 64n - 1n, text: "x" })),
    /a string of 18446744073709551615 bytes/,
  ],
  [
    "a bool of 2",
    () => withValue({ type: "bool", value: 2 }),
    /metadata "broken": a bool of value 2; expected 0 or 1/,
  ],
  [
    "an array of arrays that ends too early",
    () =>
      withValue({ type: "array", value: Buffer.concat([u32(9), u64(1), u32(4), u64(2n ** 60n), u32(7)]) }),
    /an array of 1152921504606846976 values of type uint32/,
  ],
  [
    "arrays nested a hundred deep",
    () =>
      withValue({
        type: "array",
        value: Buffer.concat(
          Array(100)
            .fill([u32(9), u64(1)])
            .flat(),
        ),
      }),
    /arrays are nested more than 8 deep/,
  ],
  [
    "an array of type 99",
    () => withValue({ type: "array", value: Buffer.concat([u32(99), u64(0)]) }),
    /an array of the unknown type 99/,
  ],
  [
    "an array of 2^62 bytes",
    () => withValue({ type: "array", elementType: "uint8", count: 2n ** 62n, value: [] }),
    /an array of 4611686018427387904 values of type uint8/,
  ],
  [
    "an array whose bytes pass 2^64",
    () => withValue({ type: "array", elementType: "string", count: 2n ** 61n + 1n, value: [] }),
    /an array of 2305843009213693953 values of type string/,
  ],
  [
    "an array one longer than the file",
    () =>
      writeGguf({
        metadata: [["broken", { type: "array", elementType: "uint32", count: 3, value: [1, 2] }]],
      }),
    /an array of 3 values of type uint32, where 8 bytes remain/,
  ],
  [
    "a string in an array longer than the file",
    () => withValue(array("string", ["a", { length: 100000, text: "x" }])),
    /metadata "broken": a string of 100000 bytes/,
  ],
  [
    "an array of bools with a 7",
    () => withValue(array("bool", [0, 1, 7])),
    /bool 2 of the array has value 7; expected 0 or 1/,
  ],
  [
    "an array with 2^63",
    () => withValue(array("uint64", [1, 2n ** 63n])),
    /value 1 of the array is 9223372036854775808; expected less than 2\^63/,
  ],
];

const alignments = [
  ["zero", uint32(0), /general\.alignment is 0; expected a power of two from 8 to 65536/],
  ["48", uint32(48), /general\.alignment is 48; expected a power of two/],
  ["4", uint32(4), /general\.alignment is 4; expected a power of two from 8/],
  ["2^31", uint32(2 ** 31), /general\.alignment is 2147483648; expected a power of two from 8 to 65536/],
  ["-32", int32(-32), /metadata "general\.alignment" is -32; expected an integer that is not negative/],
  ["a string", string("32"), /metadata "general\.alignment" is a string; expected an integer/],
].map(([name, value, message]) => [
  `an alignment of ${name}`,
  () => withMetadata(["general.alignment", value]),
  message,
]);

const splits = [
  [
    "the first of two parts",
    () => withMetadata(["split.count", { type: "uint16", value: 2 }]),
    /one of 2 parts of a split model/,
    "UnsupportedModel",
  ],
  [
    "a part count that is a string",
    () => withMetadata(["split.count", string("2")]),
    /metadata "split\.count" is a string/,
  ],
];

const tensorRecords = [
  ["an empty tensor name", () => withTensor({ name: "" }), /a tensor's name is empty/],
  [
    "a tensor name of 256 bytes",
    () => withTensor({ name: "n".repeat(256) }),
    /a tensor's name of 256 bytes; expected at most 255/,
  ],
  [
    "a tensor name of 2^40 bytes",
    () => withTensor({ name: { length: 2n ** 40n, text: "n" } }),
    /a tensor's name of 1099511627776 bytes/,
  ],
  [
    "a tensor name that is not UTF-8",
    () => withTensor({ name: Buffer.from([0x77, 0xff]) }),
    /the tensor name "w\\xff" is not valid UTF-8/,
  ],
  [
    "a tensor name with half a character",
    () => withTensor({ name: Buffer.from([0x77, 0xe2, 0x82]) }),
    /the tensor name "w\\xe2\\x82" is not valid UTF-8/,
  ],
  ["a repeated tensor name", () => withTensor({ name: "floats" }), /tensor "floats" is there twice/],
  [
    "a tensor without dimensions",
    () => withTensor({ shape: [] }),
    /tensor "quantized" has 0 dimensions; expected 1 to 4/,
  ],
  [
    "a tensor of five dimensions",
    () => withTensor({ shape: [32, 1, 1, 1, 1] }),
    /has 5 dimensions; expected 1 to 4/,
  ],
  ["a tensor of 2^32 - 1 dimensions", () => withTensor({ rank: 0xffffffff }), /has 4294967295 dimensions/],
  [
    "a first dimension of zero",
    () => withTensor({ shape: [0, 4] }),
    /tensor "quantized": dimension 0 is zero/,
  ],
  [
    "a last dimension of zero",
    () => withTensor({ shape: [32, 1, 1, 0] }),
    /tensor "quantized": dimension 3 is zero/,
  ],
  [
    "rows that end within a block",
    () => withTensor({ shape: [33] }),
    /rows of 33 elements; Q4_0 needs a multiple of 32/,
  ],
  [
    "rows shorter than a block",
    () => withTensor({ type: "Q6_K", shape: [32, 8] }),
    /rows of 32 elements; Q6_K needs a multiple of 256/,
  ],
  [
    "more than 2^63 elements",
    () => withTensor({ shape: [2n ** 32n, 2n ** 32n] }),
    /of shape \[4294967296, 4294967296\] has too many elements/,
  ],
  [
    "a dimension of 2^64 - 1",
    () => withTensor({ type: "F32", shape: [2n ** 64n - 1n] }),
    /has too many elements/,
  ],
  [
    "elements that overflow to one",
    () => withTensor({ type: "F32", shape: [2n ** 63n + 1n, 2n ** 63n + 1n] }),
    /has too many elements/,
  ],
  [
    "more than 2^63 bytes",
    () => withTensor({ type: "F32", shape: [2n ** 62n] }),
    /of shape \[4611686018427387904\] has too many bytes/,
  ],
  ["an unknown tensor type", () => withTensor({ type: 99 }), /tensor "quantized" has the unknown type 99/],
  ["a tensor type of 2^32 - 1", () => withTensor({ type: 0xffffffff }), /has the unknown type 4294967295/],
  [
    "a retired tensor type",
    () => withTensor({ type: 31 }),
    /has the type Q4_0_4_4, which was retired/,
    "UnsupportedQuantization",
  ],
];

const placements = [
  [
    "an offset off the alignment",
    () => withTensor({ offset: 33 }),
    /its offset 33 is not a multiple of the alignment 32/,
  ],
  [
    "an offset at the file's end",
    () => withTensor({ offset: 64 }),
    /tensor "quantized" needs 18 bytes at 64 of the data/,
  ],
  [
    "an offset that wraps around",
    () => withTensor({ offset: 2n ** 64n - 32n }),
    /needs 18 bytes at 18446744073709551584 of the data/,
  ],
  [
    "a tensor longer than the file",
    () => withTensor({ shape: [32, 1000] }),
    /tensor "quantized" needs 18000 bytes at 32 of the data/,
  ],
  [
    "two tensors in one place",
    () => withTensor({ offset: 0 }),
    /tensors "(floats|quantized)" and "(floats|quantized)" overlap/,
  ],
  [
    "a tensor that runs into the next",
    () => writeGguf({ tensors: [{ ...floats, shape: [9] }, quantized] }),
    /tensors "floats" and "quantized" overlap/,
  ],
  [
    "an earlier tensor that runs into a later one",
    () =>
      writeGguf({
        tensors: [
          { ...quantized, offset: 32 },
          { ...floats, shape: [9], offset: 0 },
        ],
      }),
    /tensors "floats" and "quantized" overlap/,
  ],
];

/** Every row's `stage` is "header". */
export const badHeaders = [
  ...notGguf,
  ...versions,
  ...truncations,
  ...counts,
  ...keys,
  ...values,
  ...alignments,
  ...splits,
  ...tensorRecords,
  ...placements,
].map(([name, bytes, message, code = "CorruptFile"]) => ({ name, bytes, code, message, stage: "header" }));
