/** A function that the model may ask to have called, as its chat template is told of it. */
export interface ToolDefinition {
  type: "function";
  function: {
    name: string;
    description?: string;
    /** A JSON schema of the arguments. */
    parameters?: Readonly<Record<string, unknown>>;
  };
}
