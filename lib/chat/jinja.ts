// Of @huggingface/jinja, what is used here. The package's own declarations do not resolve from CommonJS.

export interface RuntimeValue {
  readonly value: unknown;
}

export interface Environment {
  /** Declares a variable; functions take and return plain values. */
  set(name: string, value: unknown): RuntimeValue;
}

declare class InterpreterClass {
  constructor(environment: Environment);
  run(program: Program): RuntimeValue;
  /** Evaluates one node; called for every node, by the interpreter itself too. */
  evaluate(statement: unknown, environment: Environment): RuntimeValue;
}

export interface Program {
  readonly type: "Program";
}

interface Jinja {
  Environment: new () => Environment;
  Interpreter: typeof InterpreterClass;
  tokenize(source: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }): unknown[];
  parse(tokens: unknown[]): Program;
}

export const { Environment, Interpreter, parse, tokenize } = require("@huggingface/jinja") as Jinja;
