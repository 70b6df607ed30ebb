import { createHash } from "node:crypto";

const initialSlots = 2 ** 10;

/** A set of 64-bit digests, in two words each: open addressing, at most half full. */
class DigestSet {
  size = 0;
  #words = new Uint32Array(2 * initialSlots);

  has(low: number, high: number): boolean {
    const slot = this.#find(low, high);
    return this.#words[slot] !== 0 || this.#words[slot + 1] !== 0;
  }

  add(low: number, high: number): void {
    if (4 * (this.size + 1) > this.#words.length) this.#grow();
    const slot = this.#find(low, high);
    this.#words[slot] = low;
    this.#words[slot + 1] = high;
    this.size += 1;
  }

  /** Index of the digest's first word, or of the empty slot where it belongs. */
  #find(low: number, high: number): number {
    const words = this.#words;
    const mask = words.length - 1;
    let slot = (2 * low) & mask;
    while (words[slot] !== 0 || words[slot + 1] !== 0) {
      if (words[slot] === low && words[slot + 1] === high) break;
      slot = (slot + 2) & mask;
    }
    return slot;
  }

  #grow(): void {
    const old = this.#words;
    this.#words = new Uint32Array(2 * old.length);
    this.size = 0;
    for (let i = 0; i < old.length; i += 2) {
      const [low, high] = [old[i] ?? 0, old[i + 1] ?? 0];
      if (low !== 0 || high !== 0) this.add(low, high);
    }
  }
}

/**
 * Finds ids that come twice, in bounded memory: it knows digests of the last `generation` ids at least, and of twice
 * as many at most.
 */
export class RecentIds {
  #newer = new DigestSet();
  #older = new DigestSet();

  /** The default takes 16 bytes an id, 32 MiB at most. */
  constructor(private readonly generation = 2 ** 20) {}

  /** Remembers an id; false when it is remembered already. */
  add(id: string): boolean {
    const digest = createHash("sha256").update(id).digest();
    const low = digest.readUInt32LE(0) || 1; // no digest is all zero, which marks empty slots
    const high = digest.readUInt32LE(4);
    if (this.#newer.has(low, high) || this.#older.has(low, high)) return false;
    if (this.#newer.size >= this.generation) {
      this.#older = this.#newer;
      this.#newer = new DigestSet();
    }
    this.#newer.add(low, high);
    return true;
  }
}
