/**
 * Bounds what one call of these methods can allocate. V8 makes their result in a single step: a result that
 * overshoots the thread's heap limit ends the process before any check of ours could run. Meant for a thread
 * of our own; Node's internals hold the originals.
 *
 * @param charactersMax the longest result
 * @param fail throws; called instead of making a longer one
 */
export function boundBuiltins(charactersMax: number, fail: () => never): void {
  const { join } = Array.prototype;
  const { replaceAll } = String.prototype;

  Array.prototype.join = function (this: unknown[], separator = ","): string {
    const parts = Array.from(this, (part) => (part === null || part === undefined ? "" : String(part)));
    let length = Math.max(0, parts.length - 1) * separator.length;
    for (const part of parts) length += part.length;
    if (length > charactersMax) fail();
    return join.call(parts, separator);
  };

  String.prototype.replaceAll = function (
    this: string,
    pattern: string | RegExp,
    replacement: unknown,
  ): string {
    if (typeof replacement !== "function")
      return replaceAll.call(this, pattern as RegExp, replacement as never);
    let length = this.length;
    const replacer = (match: string, ...rest: unknown[]): string => {
      const text = String(replacement(match, ...rest));
      length += text.length - match.length;
      if (length > charactersMax) fail();
      return text;
    };
    return replaceAll.call(this, pattern as RegExp, replacer as never);
  };
}
