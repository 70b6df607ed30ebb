import type { Adapter, AdapterChoice, WeightedAdapter } from "../adapter";
import { TokenmillError } from "../errors";
import type { NativeAdapterChoice } from "../native";
import { checkKeys, checkNumber, checkObject, invalid } from "../validate";

const stackMaximum = 16;

/** What the engine knows of an adapter, and what its files say. */
export interface AdapterRecord {
  id: number;
  /** Of its factors: equal for equal adapters, of which this process alone knows the second half. */
  digest: string;
  name: string;
  rank: number;
  targets: readonly string[];
  bytes: number;
  scale: number;
}

/** What a snapshot remembers of an adapter, but for the digest's second half. */
export interface AdapterMark {
  name: string;
  digest: string;
  scale: number;
}

/** The part of an adapter's digest that other processes give it too; the rest must not become known. */
export function sharedDigest(digest: string): string {
  return digest.slice(0, 16);
}

/** Whom an adapter tells of its end: at once, and when nobody uses it any more. */
interface Owner {
  removed(adapter: LoadedAdapter): void;
  idle(adapter: LoadedAdapter): void;
}

class LoadedAdapter implements Adapter {
  readonly record: AdapterRecord;
  readonly #owner: Owner;
  /** Calls that loaded it; as many unload it. */
  #loads = 1;
  #users = 0;
  #unloaded: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  constructor(record: AdapterRecord, owner: Owner) {
    this.record = record;
    this.#owner = owner;
  }

  get name() {
    return this.record.name;
  }
  get rank() {
    return this.record.rank;
  }
  get targets() {
    return this.record.targets;
  }
  get bytes() {
    return this.record.bytes;
  }
  get scale() {
    return this.record.scale;
  }
  get removed() {
    return this.#unloaded !== undefined;
  }

  unload(): Promise<void> {
    if (this.#loads > 0) this.#loads--;
    if (this.#loads > 0) return Promise.resolve();
    this.#unloaded ??= this.#unload();
    return this.#unloaded;
  }

  loadedAgain(): void {
    this.#loads++;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unload();
  }

  use(): void {
    this.#users++;
  }

  leave(): void {
    this.#users--;
    if (this.#users === 0) this.#onIdle?.();
  }

  async #unload(): Promise<void> {
    this.#owner.removed(this);
    if (this.#users > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    this.#owner.idle(this);
  }
}

/** The adapters that a request uses, until it has ended. */
export interface AdapterUse {
  readonly choices: NativeAdapterChoice[];
  /** Called once. */
  end(): void;
}

function disposed(name: string): TokenmillError {
  return new TokenmillError("Disposed", `the adapter '${name}' was unloaded; load it again`);
}

/** A model's adapters by their names. */
export class LoadedAdapters {
  readonly #release: (id: number) => void;
  readonly #byName = new Map<string, LoadedAdapter>();

  /** `release` takes an adapter's id away in the engine. */
  constructor(release: (id: number) => void) {
    this.#release = release;
  }

  /** The adapters that requests can name, in the order of their loading. */
  list(): Adapter[] {
    return [...this.#byName.values()];
  }

  /**
   * Registers what was loaded. Loaded again under its name, with the same scale, it is the one that is there, which is
   * then unloaded as often; another adapter of that name is refused. The id is given up where it is not needed.
   */
  add(record: AdapterRecord): Adapter {
    const { id, name } = record; // what is kept does not hold the record's own list of targets
    const known = this.#byName.get(name);
    if (!known) {
      const adapter = new LoadedAdapter(
        { ...record, targets: this.#targetsLike(record.targets) },
        {
          removed: () => this.#byName.delete(name),
          idle: () => this.#release(id),
        },
      );
      this.#byName.set(name, adapter);
      return adapter;
    }
    this.#release(id);
    if (known.record.digest === record.digest && known.scale === record.scale) {
      known.loadedAgain();
      return known;
    }
    throw new TokenmillError(
      "InvalidArgument",
      `an adapter named '${name}' is loaded already and differs; give this one another name, or unload that one`,
    );
  }

  /** @throws TokenmillError InvalidArgument, Disposed */
  use(choice: AdapterChoice | undefined): AdapterUse | undefined {
    if (choice === undefined) return undefined;
    const stack = this.#resolve(choice);
    if (stack.length === 0) return undefined;
    for (const { adapter } of stack) adapter.use();
    return {
      choices: stack.map(({ adapter, scale }) => ({ id: adapter.record.id, scale: adapter.scale * scale })),
      end: () => {
        for (const { adapter } of stack) adapter.leave();
      },
    };
  }

  /**
   * The choice as options that the caller cannot change any more, for requests to come.
   *
   * @throws TokenmillError InvalidArgument, Disposed
   */
  own(choice: AdapterChoice | undefined): { adapter?: AdapterChoice } {
    if (choice === undefined) return {};
    this.#resolve(choice);
    return { adapter: Array.isArray(choice) ? choice.map((entry) => ({ ...entry })) : choice };
  }

  /** What tells a request's adapters again in another process. */
  marks(choice: AdapterChoice | undefined): AdapterMark[] {
    if (choice === undefined) return [];
    return this.#resolve(choice).map(({ adapter, scale }) => ({
      name: adapter.name,
      digest: adapter.record.digest,
      scale: adapter.scale * scale,
    }));
  }

  /** The adapters that are loaded here for those of a snapshot. */
  find(marks: readonly AdapterMark[]): WeightedAdapter[] {
    return marks.map(({ name, digest, scale }) => {
      const equal = [...this.#byName.values()].filter(
        ({ record }) => sharedDigest(record.digest) === sharedDigest(digest),
      );
      equal.sort((a, b) => Number(b.name === name) - Number(a.name === name));
      const adapter = equal.find((one) => canScale(one.scale, scale));
      if (adapter) return { adapter, scale: factorFor(adapter.scale, scale) };
      const [other] = equal;
      throw new TokenmillError(
        "Incompatible",
        other
          ? `the snapshot's conversation uses the adapter '${name}' with scale ${scale}, to which no factor leads ` +
              `from the ${other.scale} that '${other.name}' was loaded with; load it under another name with that scale`
          : `the snapshot's conversation uses the adapter '${name}', which is not loaded ` +
              `(${this.#byName.has(name) ? "one of that name is, and differs" : "load it first"})`,
      );
    });
  }

  /** The list of names as an adapter has it already: there may be thousands that change the same matrices. */
  #targetsLike(targets: readonly string[]): readonly string[] {
    for (const { record } of this.#byName.values()) {
      const { targets: known } = record;
      if (known.length === targets.length && known.every((target, i) => target === targets[i])) return known;
    }
    return Object.freeze([...targets]);
  }

  #resolve(choice: AdapterChoice) {
    if (!Array.isArray(choice)) return [{ adapter: this.#find("adapter", choice), scale: 1 }];
    if (choice.length > stackMaximum) throw invalid("adapter", choice, `at most ${stackMaximum} adapters`);
    // An array may have holes, which map() would pass over.
    return Array.from(choice, (entry: WeightedAdapter, position) => {
      const name = `adapter[${position}]`;
      checkObject(name, entry);
      checkKeys(name, entry, ["adapter", "scale"]);
      checkNumber(`${name}.scale`, entry.scale, scaleRange);
      return { adapter: this.#find(`${name}.adapter`, entry.adapter), scale: entry.scale ?? 1 };
    });
  }

  #find(option: string, wanted: unknown): LoadedAdapter {
    if (wanted instanceof LoadedAdapter) {
      if (wanted.removed) throw disposed(wanted.name);
      if (this.#byName.get(wanted.name) === wanted) return wanted;
      throw new TokenmillError(
        "InvalidArgument",
        `${option} is the adapter '${wanted.name}' of another model; load it on this one`,
      );
    }
    if (typeof wanted !== "string") throw invalid(option, wanted, "an adapter of this model or its name");
    const adapter = this.#byName.get(wanted);
    if (adapter) return adapter;
    const known = [...this.#byName.keys()].map((name) => `'${name}'`).join(", ");
    throw new TokenmillError(
      "InvalidArgument",
      `${option} is '${wanted}', which is not loaded; ${known ? `loaded are ${known}` : "load it with loadAdapter()"}`,
    );
  }
}

/** Factors on what an adapter adds. */
export const scaleRange = { minimum: -1000, maximum: 1000 };

/** The factor of a request that makes `wanted` of an adapter's own scale. */
function factorFor(own: number, wanted: number): number {
  return own === wanted ? 1 : wanted / own;
}

function canScale(own: number, wanted: number): boolean {
  const factor = factorFor(own, wanted);
  return Math.abs(factor) <= scaleRange.maximum && Math.fround(own * factor) === Math.fround(wanted);
}
