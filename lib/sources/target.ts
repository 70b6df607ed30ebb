import type { Mirror } from "./aliases";
import type { Expectation } from "./download-file";

/** A file of the cache, and where it can be had. */
export interface FetchTarget extends Expectation {
  /** Where it is kept. */
  path: string;
  /** What the user calls it. */
  name: string;
  /** Tried in order. */
  mirrors: readonly Mirror[];
}
