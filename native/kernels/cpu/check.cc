#include "kernels/cpu/check.h"

#include "kernels/cpu/adapter.h"

namespace tokenmill::cpu {
namespace {

// Each adapter of the executor with this program, and once.
bool AdaptersFit(const Program& program, std::span<const AdapterUse> uses) {
  for (size_t i = 0; i < uses.size(); ++i) {
    const auto* adapter = dynamic_cast<const CpuAdapter*>(uses[i].adapter);
    if (adapter == nullptr || adapter->program() != &program) return false;
    for (size_t j = 0; j < i; ++j) {
      if (uses[j].adapter == uses[i].adapter) return false;
    }
  }
  return true;
}

Status BadStep(const char* what) { return Error(Code::kInternal, "a step has %s", what); }

}  // namespace

Status CheckStep(const Program& program, const CompileOptions& options, const StepInput& input) {
  if (input.tokens.size() > static_cast<size_t>(options.max_rows)) return BadStep("too many rows");
  const int rows = static_cast<int>(input.tokens.size());
  for (const int32_t token : input.tokens) {
    if (token < 0 || token >= program.vocabulary) return BadStep("a token outside the vocabulary");
  }
  int next = 0;
  for (const StepSequence& sequence : input.sequences) {
    if (sequence.row_begin != next || sequence.rows < 0 || sequence.position < 0)
      return BadStep("a gap in its rows");
    if (sequence.rows > rows - next) return BadStep("more rows in its sequences than tokens");
    if (!AdaptersFit(program, sequence.adapters)) return BadStep("an adapter of another model, or one twice");
    next += sequence.rows;
  }
  if (next != rows) return BadStep("tokens that belong to no sequence");
  for (const HeadRow& head : input.head) {
    if (head.row < 0 || head.row >= rows) return BadStep("a head row that does not exist");
    const auto known = [&program](int32_t token) { return token >= 0 && token < program.vocabulary; };
    for (const LogitEdit& edit : head.edits) {
      if (!known(edit.token)) return BadStep("an edit outside the vocabulary");
    }
    for (const int32_t target : head.targets) {
      if (!known(target)) return BadStep("a target outside the vocabulary");
    }
  }
  return {};
}

}  // namespace tokenmill::cpu
