import { getHeapStatistics } from "node:v8";
import { TokenmillError } from "../errors";
import { Environment, Interpreter, type Program, parse, type RuntimeValue, tokenize } from "./jinja";
import { completeStringMethods } from "./python-strings";
import { RenderLimitError, renderLimits } from "./render-limits";
import { strftime } from "./strftime";

completeStringMethods();

/** A template's `raise_exception`: the conversation is not one it takes. */
export class TemplateRefusal extends TokenmillError {
  /** What the template says. */
  readonly reason: string;

  constructor(reason: string) {
    super("InvalidArgument", `The model's chat template refuses these messages: ${reason.slice(0, 1000)}`);
    this.reason = reason;
  }
}

export interface RenderBounds {
  /** On the clock of performance.now(). */
  deadline: number;
  /** The longest string at any moment, the result included. */
  charactersMax: number;
}

/**
 * How many nodes are evaluated, and how many characters made, from one look at time and memory to the next.
 */
const checkSteps = 1024;
const checkCharacters = 1 << 22;

/** An interpreter that stops when it has run for too long or made too much. */
class BoundedInterpreter extends Interpreter {
  #steps = 0;
  #characters = 0;
  readonly #heapStart = getHeapStatistics().used_heap_size;
  readonly #bounds: RenderBounds;

  constructor(environment: Environment, bounds: RenderBounds) {
    super(environment);
    this.#bounds = bounds;
  }

  override evaluate(statement: unknown, environment: Environment): RuntimeValue {
    if (++this.#steps >= checkSteps || this.#characters >= checkCharacters) this.#checkResources();
    const result = super.evaluate(statement, environment);
    const { value } = result;
    if (typeof value === "string") {
      if (value.length > this.#bounds.charactersMax) throw tooLong();
      this.#characters += value.length;
    } else if (Array.isArray(value) && value.length > renderLimits.listElements) {
      throw new RenderLimitError(`makes a list of more than ${renderLimits.listElements} elements`);
    }
    return result;
  }

  #checkResources(): void {
    this.#steps = 0;
    this.#characters = 0;
    if (performance.now() > this.#bounds.deadline) {
      throw new RenderLimitError(`runs for more than ${renderLimits.timeMs / 1000} s`);
    }
    if (getHeapStatistics().used_heap_size - this.#heapStart > renderLimits.heapBytes) {
      throw new RenderLimitError(`needs more than ${renderLimits.heapBytes >> 20} MiB of memory`);
    }
  }
}

function tooLong(): RenderLimitError {
  return new RenderLimitError(`makes more than ${renderLimits.conversationCharacters} characters of text`);
}

function range(...parameters: unknown[]): number[] {
  const numbers = parameters.filter((value): value is number => typeof value === "number");
  const [start, stop] = numbers.length > 1 ? [numbers[0] ?? 0, numbers[1] ?? 0] : [0, numbers[0] ?? 0];
  const step = numbers[2] ?? 1;
  if (step === 0 || numbers.length !== parameters.length)
    throw new Error("range() takes numbers, and no step of 0");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > renderLimits.listElements) {
    throw new RenderLimitError(`asks for a range of ${length} numbers`);
  }
  return Array.from({ length }, (_, index) => start + index * step);
}

function raiseException(message: unknown): never {
  throw new TemplateRefusal(String(message));
}

function createEnvironment(context: Record<string, unknown>): Environment {
  const environment = new Environment();
  const globals = {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range,
    raise_exception: raiseException,
    strftime_now: (format: unknown) => strftime(new Date(), String(format)),
  };
  for (const [name, value] of Object.entries({ ...globals, ...context })) environment.set(name, value);
  return environment;
}

/** What a failure inside the template language means to the caller. */
function explain(error: unknown, doing: string): TokenmillError {
  if (error instanceof TokenmillError) return error;
  if (error instanceof RangeError) {
    return /stack/i.test(error.message) ? new RenderLimitError("nests too deeply") : tooLong();
  }
  const message = error instanceof Error ? error.message : String(error);
  return new TokenmillError(
    "UnsupportedModel",
    `The model's chat template cannot be ${doing}: ${message.slice(0, 1000)}. ` +
      "generate() takes prompts without it",
    { cause: error },
  );
}

/**
 * A parsed chat template, with the variables and functions that transformers' `apply_chat_template` gives it.
 */
export class CompiledTemplate {
  readonly #program: Program;

  /** Throws UnsupportedModel when `source` cannot be parsed. */
  constructor(source: string) {
    if (source.length > renderLimits.templateCharacters) {
      throw new RenderLimitError(
        `has ${source.length} characters, more than ${renderLimits.templateCharacters}`,
      );
    }
    try {
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (error) {
      throw explain(error, "parsed");
    }
  }

  /**
   * Throws {@link TemplateRefusal} for what the template raises, {@link RenderLimitError} past a limit, and
   * UnsupportedModel for what the template language cannot do.
   */
  render(context: Record<string, unknown>, bounds: RenderBounds): string {
    try {
      const interpreter = new BoundedInterpreter(createEnvironment(context), bounds);
      return String(interpreter.run(this.#program).value);
    } catch (error) {
      throw explain(error, "rendered");
    }
  }
}

/** Thrown where a built-in would make a string beyond any limit. */
export function failTooLong(): never {
  throw tooLong();
}
