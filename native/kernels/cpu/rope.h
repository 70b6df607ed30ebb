#pragma once

#include <vector>

#include "core/memory.h"
#include "kernels/cpu/step_state.h"

namespace tokenmill::cpu {

/// Cosines and sines of one RopeTable at the positions of a step's rows, in the form that CpuKernels::rope
/// takes.
class RopeAngles {
 public:
  RopeAngles(const RopeTable& table, int max_rows);

  /// Empty memory where the system refused it.
  bool allocated() const { return static_cast<bool>(memory_) || table_.dims == 0; }
  size_t bytes() const { return memory_.size(); }
  void FillRow(int row, int position) const;
  void Rotate(const CpuKernels& kernels, int row, float* head) const {
    kernels.rope[static_cast<int>(table_.style)](head, a(row), b(row), table_.dims / 2);
  }

 private:
  float* a(int row) const { return memory_.as<float>() + static_cast<int64_t>(row) * 2 * table_.dims; }
  float* b(int row) const { return a(row) + table_.dims; }

  const RopeTable table_;
  SystemBuffer memory_;  // [max_rows][a, b][dims]
};

/// Norm and rotation of q and k heads, and the write of k and v to the row's page.
class RopeWrite {
 public:
  RopeWrite(const StepState* state, const RopeAngles* angles, const RopeWriteKv& op, RowBuffer q, RowBuffer k,
            RowBuffer v);

  int Tasks() const;
  void Run(int task) const;

 private:
  void RunHead(int row, int kv_head) const;
  void NormAndRotate(const Norm& norm, int row, float* head) const;
  void Write(int row, int kv_head) const;
  void WriteInt8(const KvHead& head, int slot, const float* k, const float* v) const;

  const StepState* state_;
  const RopeAngles* angles_;
  const RopeWriteKv op_;
  const KvLayer layer_;
  const RowBuffer q_, k_, v_;
};

}  // namespace tokenmill::cpu
