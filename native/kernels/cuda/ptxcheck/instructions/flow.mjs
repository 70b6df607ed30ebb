// Branches and ends.

export function labelName(label) {
  return `L${label.replace(/\W/g, "_")}`;
}

function target(i, operand) {
  if (operand.kind !== "symbol" || operand.offset !== 0n) i.fail("the target has to be a label");
  return labelName(
    i.kernel.labels.has(operand.name) ? operand.name : i.fail(`unknown label ${operand.name}`),
  );
}

function branch(i) {
  i.flag("uni");
  i.end(1);
  return `goto ${target(i, i.operand(0))};`;
}

/** brx.idx a, list: to the a-th label of the list. */
function branchIndexed(i) {
  i.one("idx");
  i.flag("uni");
  i.end(2);
  const labels = i.kernel.targets.get(i.operand(1).name) ?? i.fail("unknown list of targets");
  const cases = labels.map(
    (label, at) => `case ${at}: goto ${target(i, { kind: "symbol", name: label, offset: 0n })};`,
  );
  return `switch (${i.valueOf(i.operand(0), 32)}) { ${cases.join(" ")} default: t.Trap(); }`;
}

function leave(i) {
  i.flag("uni");
  i.end(0);
  return "return;";
}

function trap(i) {
  i.end(0);
  return "t.Trap();";
}

export const flow = { bra: branch, brx: branchIndexed, ret: leave, exit: leave, trap };
