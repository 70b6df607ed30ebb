// What a consumer finds in the package, which two ways of importing gave: printed as JSON.

const addons = () => process.report.getReport().sharedObjects.filter((path) => path.endsWith("tokenmill.node"));

exports.probe = async ([first, second], path) => {
  const names = Object.keys(first);
  const result = { names, sameCopy: names.every((name) => first[name] === second[name]), addonsBefore: addons() };
  try {
    const models = [await first.loadModel(path), await second.loadModel(path)];
    const replies = models.map((model) => model.generate("The mill", { maxTokens: 8, ignoreEos: true }));
    result.areReplies = replies.every((reply) => reply instanceof first.Reply);
    result.tokens = (await Promise.all(replies)).map((completion) => completion.tokens);
    for (const model of models) await model.dispose();
  } catch (error) {
    const { code, message } = error;
    result.error = { code, message, isInstance: second.TokenmillError.isInstance(error) };
  }
  process.stdout.write(JSON.stringify({ ...result, addonsAfter: addons() }));
};
