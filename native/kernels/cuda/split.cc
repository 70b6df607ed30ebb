#include "kernels/cuda/split.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/adapter_check.h"

namespace tokenmill::cuda {
namespace {

struct Reads {
  ValueId value;
  bool operator()(const Embed&) const { return false; }
  bool operator()(const NormProject& op) const { return op.in == value; }
  bool operator()(const RopeWriteKv& op) const { return op.q == value || op.k == value || op.v == value; }
  bool operator()(const PagedAttention& op) const { return op.q == value; }
  bool operator()(const ProjectAdd& op) const { return op.in == value || op.residual == value; }
  bool operator()(const GatedMlp& op) const { return op.in == value; }
  bool operator()(const Head& op) const { return op.in == value; }
};

struct Writes {
  ValueId value;
  bool operator()(const Embed& op) const { return op.out == value; }
  bool operator()(const NormProject& op) const {
    return std::any_of(op.projections.begin(), op.projections.end(),
                       [this](const Projection& projection) { return projection.out == value; });
  }
  bool operator()(const RopeWriteKv& op) const { return op.q == value; }
  bool operator()(const PagedAttention& op) const { return op.out == value; }
  bool operator()(const ProjectAdd& op) const { return op.residual == value; }
  bool operator()(const GatedMlp& op) const { return op.out == value; }
  bool operator()(const Head&) const { return false; }
};

double BytesOf(const Program& program, const Op& op) {
  std::vector<WeightId> matrices = LinearMatrices(op);
  if (const auto* embed = std::get_if<Embed>(&op)) matrices.push_back(embed->table);
  double bytes = 0;
  for (const WeightId matrix : matrices) {
    const WeightDesc& desc = program.weights[static_cast<size_t>(matrix)];
    bytes += static_cast<double>(RowBytes(desc.dtype, desc.cols)) * static_cast<double>(desc.rows);
  }
  return bytes;
}

}  // namespace

bool ReadsValue(const Op& op, ValueId value) { return std::visit(Reads{value}, op); }
bool WritesValue(const Op& op, ValueId value) { return std::visit(Writes{value}, op); }

std::vector<ValueId> LiveValues(const Program& program, int op) {
  std::vector<ValueId> live;
  for (ValueId value = 0; value < static_cast<ValueId>(program.values.size()); ++value) {
    for (size_t i = static_cast<size_t>(op); i < program.ops.size(); ++i) {
      const bool reads = ReadsValue(program.ops[i], value);
      if (reads) live.push_back(value);
      if (reads || WritesValue(program.ops[i], value)) break;
    }
  }
  return live;
}

std::vector<int> SplitOps(const Program& program, std::span<const size_t> memory_bytes) {
  const int ops = static_cast<int>(program.ops.size());
  std::vector<double> before = {0};  // weights before each operation, and in all
  for (const Op& op : program.ops) before.push_back(before.back() + BytesOf(program, op));
  double memory = 0, all_memory = 0;
  for (const size_t bytes : memory_bytes) all_memory += static_cast<double>(bytes);
  std::vector<int> begins = {0};
  for (size_t device = 0; device + 1 < memory_bytes.size(); ++device) {
    memory += static_cast<double>(memory_bytes[device]);
    const double wanted = all_memory > 0 ? before.back() * memory / all_memory : 0;
    int best = 0;
    double distance = std::numeric_limits<double>::infinity();
    for (int op = begins.back() + 1; op < ops; ++op) {
      const double off = std::fabs(before[static_cast<size_t>(op)] - wanted);
      if (off >= distance || LiveValues(program, op).size() != 1) continue;
      best = op;
      distance = off;
    }
    if (best == 0) break;
    begins.push_back(best);
  }
  return begins;
}

}  // namespace tokenmill::cuda
