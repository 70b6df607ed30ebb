#pragma once

#include <vector>

#include "kernels/cpu/kernels.h"
#include "ops/program.h"

namespace tokenmill::cpu {

/// How a program's matrices are packed, and so in which forms its values and the outputs of its norms are read: as
/// floats, or by products as int8 blocks or bf16.
class Forms {
 public:
  struct Form {
    bool floats = false;
    bool blocks = false;
    bool bf16 = false;

    void Add(InputForm form);
    void Add(const Form& other);
  };

  /// BF16 matrices are for products of bf16 where the kernels have them and activations may be rounded so far: with
  /// one term.
  Forms(const Program& program, const CpuKernels& kernels, int activation_terms);

  /// By WeightId; of those that are matrices.
  const std::vector<PackedFormat>& formats() const { return formats_; }

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
  std::vector<PackedFormat> formats_;
  std::vector<Form> values_;
  Form norms_;
  int norm_width_ = 0;
};

}  // namespace tokenmill::cpu
