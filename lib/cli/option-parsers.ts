import { InvalidArgumentError } from "commander";

function rangeOf(minimum: number, maximum: number, unlimited: number): string {
  return maximum === unlimited ? `at least ${minimum}` : `${minimum} to ${maximum}`;
}

/** Parses a whole number from `minimum` to `maximum`. */
export function wholeNumber(minimum: number, maximum = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < minimum || value > maximum) {
      const range = rangeOf(minimum, maximum, Number.MAX_SAFE_INTEGER);
      throw new InvalidArgumentError(`Expected a whole number: ${range}.`);
    }
    return value;
  };
}

/** Parses a number from `minimum` to `maximum`. */
export function numberBetween(minimum: number, maximum = Number.POSITIVE_INFINITY): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (!(value >= minimum && value <= maximum && Number.isFinite(value))) {
      const range = rangeOf(minimum, maximum, Number.POSITIVE_INFINITY);
      throw new InvalidArgumentError(`Expected a number: ${range}.`);
    }
    return value;
  };
}

/** Gathers the values of an option that may be given several times. */
export function collect(text: string, earlier: string[] = []): string[] {
  return [...earlier, text];
}
