/** The bits of the f16 nearest to a number of f16's normal range, or of 0 below it. */
export function halfOf(value) {
  const [bits] = new Uint32Array(Float32Array.of(value).buffer);
  const sign = (bits >>> 16) & 0x8000;
  const rounded = (bits & 0x7fffffff) + 0x1000;
  const exponent = (rounded >>> 23) - 112;
  if (exponent <= 0) return sign;
  return sign | (exponent << 10) | ((rounded >>> 13) & 0x3ff);
}
