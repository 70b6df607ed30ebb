// Writes zip files as wheels are: entries stored or deflated.
import { crc32, deflateRawSync } from "node:zlib";

function header(signature, fields) {
  const bytes = Buffer.alloc(4 + fields.reduce((sum, [size]) => sum + size, 0));
  bytes.writeUInt32LE(signature, 0);
  let offset = 4;
  for (const [size, value] of fields) {
    bytes.writeUIntLE(value, offset, size);
    offset += size;
  }
  return bytes;
}

/** `entries`: name to { body, isStored? }. */
export function zip(entries) {
  const pieces = [];
  const directory = [];
  let offset = 0;
  for (const [name, { body, isStored = false }] of Object.entries(entries)) {
    const packed = isStored ? body : deflateRawSync(body);
    const nameBytes = Buffer.from(name);
    const shared = [
      ...[
        [2, 20],
        [2, 0x0800], // names are UTF-8
        [2, isStored ? 0 : 8],
        [4, 0],
      ],
      ...[
        [4, crc32(body)],
        [4, packed.length],
        [4, body.length],
        [2, nameBytes.length],
        [2, 0],
      ],
    ];
    pieces.push(header(0x04034b50, shared), nameBytes, packed);
    const central = [[2, 20], ...shared, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]];
    directory.push(header(0x02014b50, central), nameBytes);
    offset += 30 + nameBytes.length + packed.length;
  }
  const count = Object.keys(entries).length;
  const directoryBytes = directory.reduce((sum, piece) => sum + piece.length, 0);
  const end = [
    [2, 0],
    [2, 0],
    [2, count],
    [2, count],
    [4, directoryBytes],
    [4, offset],
    [2, 0],
  ];
  return Buffer.concat([...pieces, ...directory, header(0x06054b50, end)]);
}
