#pragma once

#include <vector>

#include "ops/program.h"

namespace tokenmill::cpu {

/// In which forms the values of a program and the outputs of its norms are read: as floats, or as int8 blocks
/// by products with quantized matrices.
class Forms {
 public:
  struct Form {
    bool floats = false;
    bool blocks = false;
  };

  explicit Forms(const Program& program);

  const Form& of(ValueId value) const { return values_[static_cast<size_t>(value)]; }
  /// Of the norm of an operation with these matrices.
  Form OfNorm(const std::vector<WeightId>& matrices) const;
  /// Of all norms that products of a step follow, and the widest of their inputs.
  const Form& norms() const { return norms_; }
  int norm_width() const { return norm_width_; }

 private:
  void Visit(const Embed& op);
  void Visit(const NormProject& op);
  void Visit(const RopeWriteKv& op);
  void Visit(const PagedAttention& op);
  void Visit(const ProjectAdd& op);
  void Visit(const GatedMlp& op);
  void Visit(const Head& op);
  void ReadByNorm(ValueId in, const std::vector<WeightId>& matrices);

  const Program& program_;
  std::vector<Form> values_;
  Form norms_;
  int norm_width_ = 0;
};

}  // namespace tokenmill::cpu
