import type { NativeModel } from "./native";

/** What models of this package can be asked for, to guess with them; throws when the model was disposed. */
const lenders = new WeakMap<object, () => NativeModel>();

/** Lets other models guess with `model`. */
export function lendAsDraft(model: object, lend: () => NativeModel): void {
  lenders.set(model, lend);
}

/** Whether a value is a loaded model, disposed or not. */
export function isDraftModel(value: unknown): value is object {
  return typeof value === "object" && value !== null && lenders.has(value);
}

/** The native model of a draft. */
export function nativeDraft(model: object): NativeModel | undefined {
  return lenders.get(model)?.();
}
