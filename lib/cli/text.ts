import { styleText } from "node:util";

const units = ["B", "KB", "MB", "GB", "TB"];

/** A number of bytes as people read it, in powers of 1000: 98362432 is "98.4 MB". */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.95 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Rows as columns of text, as wide as their widest cell, the named ones aligned to the right. */
export function formatTable(
  rows: readonly (readonly string[])[],
  rightAligned: readonly number[] = [],
): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => {
    const cells = row.map((cell, column) => {
      const width = widths[column] ?? 0;
      return rightAligned.includes(column) ? cell.padStart(width) : cell.padEnd(width);
    });
    return cells.join("  ").trimEnd();
  });
  return `${lines.join("\n")}\n`;
}

/** Whether a stream shows colours: at a terminal, unless NO_COLOR is set. */
export function showsColours(stream: { isTTY?: boolean }): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== "dumb";
}

/** Dims a note where the stream shows colours. */
export function note(stream: { isTTY?: boolean }, text: string): string {
  return showsColours(stream) ? styleText("dim", text) : text;
}
