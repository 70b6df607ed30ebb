import { Environment, type RuntimeValue } from "./jinja";

type Strip = "strip" | "lstrip" | "rstrip";

/**
 * Python's `str.strip` and its kin with an argument: takes characters of the set `characters` off the ends.
 */
function stripOf(text: string, characters: string, method: Strip): string {
  const set = new Set(characters);
  const all = Array.from(text);
  let start = 0;
  let end = all.length;
  if (method !== "rstrip") while (start < end && set.has(all[start] ?? "")) ++start;
  if (method !== "lstrip") while (end > start && set.has(all[end - 1] ?? "")) --end;
  return all.slice(start, end).join("");
}

interface StringValue extends RuntimeValue {
  readonly value: string;
  readonly builtins: Map<string, FunctionValue>;
}

interface FunctionValue extends RuntimeValue {
  readonly value: (parameters: RuntimeValue[], scope: Environment) => RuntimeValue;
}

type Constructor<Value> = new (value: unknown) => Value;

/**
 * Gives the strip methods of the template language's strings their argument, which the interpreter leaves out
 * of account: `content.lstrip("\n")` must not take indentation along. Affects this thread's copy of the
 * interpreter.
 */
export function completeStringMethods(): void {
  const environment = new Environment();
  const StringValue = environment.set("string", "").constructor as Constructor<StringValue>;
  const FunctionValue = environment.set("function", () => null).constructor as Constructor<FunctionValue>;
  const builtins = Object.getOwnPropertyDescriptor(StringValue.prototype, "builtins")?.get;
  if (builtins === undefined) throw new Error("The template language's strings have no methods");

  const complete = (self: StringValue, methods: Map<string, FunctionValue>, method: Strip): void => {
    const plain = methods.get(method);
    const stripped = new FunctionValue((parameters: RuntimeValue[], scope: Environment) => {
      const characters = parameters[0]?.value;
      if (typeof characters !== "string") return plain?.value(parameters, scope) ?? self;
      return new StringValue(stripOf(self.value, characters, method));
    });
    methods.set(method, stripped);
  };
  const completed = new WeakSet<StringValue>();
  Object.defineProperty(StringValue.prototype, "builtins", {
    configurable: true,
    get(this: StringValue) {
      const methods = builtins.call(this) as Map<string, FunctionValue>;
      if (!completed.has(this)) {
        completed.add(this);
        for (const method of ["strip", "lstrip", "rstrip"] as const) complete(this, methods, method);
      }
      return methods;
    },
  });
}
