#include "ops/step_check.h"

namespace tokenmill {
namespace {

Status BadStep(const char* what) { return Error(Code::kInternal, "a step has %s", what); }

bool AdaptersFit(std::span<const AdapterUse> uses, const std::function<bool(const LoadedAdapter*)>& fits) {
  for (size_t i = 0; i < uses.size(); ++i) {
    if (!fits(uses[i].adapter)) return false;
    for (size_t j = 0; j < i; ++j) {
      if (uses[j].adapter == uses[i].adapter) return false;
    }
  }
  return true;
}

Status CheckHead(const Program& program, const HeadRow& head) {
  const auto known = [&program](int32_t token) { return token >= 0 && token < program.vocabulary; };
  for (const LogitEdit& edit : head.edits) {
    if (!known(edit.token)) return BadStep("an edit outside the vocabulary");
  }
  for (const int32_t target : head.targets) {
    if (!known(target)) return BadStep("a target outside the vocabulary");
  }
  return {};
}

}  // namespace

Status CheckStep(const Program& program, int max_rows, const StepInput& input,
                 const std::function<bool(const LoadedAdapter*)>& fits) {
  if (input.tokens.size() > static_cast<size_t>(max_rows)) return BadStep("too many rows");
  const int rows = static_cast<int>(input.tokens.size());
  for (const int32_t token : input.tokens) {
    if (token < 0 || token >= program.vocabulary) return BadStep("a token outside the vocabulary");
  }
  int next = 0;
  for (const StepSequence& sequence : input.sequences) {
    if (sequence.row_begin != next || sequence.rows < 0 || sequence.position < 0)
      return BadStep("a gap in its rows");
    if (sequence.rows > rows - next) return BadStep("more rows in its sequences than tokens");
    if (!AdaptersFit(sequence.adapters, fits)) return BadStep("an adapter of another model, or one twice");
    next += sequence.rows;
  }
  if (next != rows) return BadStep("tokens that belong to no sequence");
  for (const HeadRow& head : input.head) {
    if (head.row < 0 || head.row >= rows) return BadStep("a head row that does not exist");
    TM_RETURN_IF_ERROR(CheckHead(program, head));
  }
  return {};
}

}  // namespace tokenmill
