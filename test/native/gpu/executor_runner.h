#pragma once

// Runs the programs of cpu_test_models.h on GPU executors over emulated devices.

#include <memory>
#include <vector>

#include "adapter_test_util.h"
#include "cpu_test_runner.h"
#include "executor_expectations.h"
#include "gpu_test.h"
#include "harness.h"
#include "kernels/cuda/executor.h"

namespace gpu_test {

using namespace tokenmill;
using cpu_test::Logits;
using cpu_test::LogitNmse;
using cpu_test::Model;
using cpu_test::ModelShape;
using cpu_test::Runner;
using cpu_test::Same;
using tokenmill::cuda::CompileCuda;
using tokenmill::cuda::EmuOptions;

using Drivers = std::vector<std::shared_ptr<Driver>>;

struct RunOptions {
  int max_rows = 64;
  int max_head_rows = 5;
  int terms = 1;
  KvType kv_type = KvType::kF16;
};

inline CompileOptions ToCompileOptions(const RunOptions& given) {
  CompileOptions options;
  options.max_rows = given.max_rows;
  options.max_head_rows = given.max_head_rows;
  options.activation_terms = given.terms;
  options.kv_type = given.kv_type;
  options.threads = 2;
  options.pool = &ThreadPool::Process();
  return options;
}

/// Fresh devices 0, 1, …; emulated ones share nothing.
inline Drivers NewDrivers(int count = 1, size_t memory_bytes = size_t{512} << 20) {
  Drivers drivers;
  for (int device = 0; device < count; ++device) {
    EmuOptions options;
    options.device = device;
    options.memory_bytes = memory_bytes;
    drivers.push_back(NewTestDriver(options));
  }
  return drivers;
}

inline std::unique_ptr<Executor> Compile(const Program& program, const WeightSource& weights,
                                         const Drivers& drivers, const CompileOptions& options) {
  auto compiled = CompileCuda(program, drivers, options);
  EXPECT(compiled.ok());
  if (!compiled.ok()) std::printf("    %s\n", compiled.status().message().c_str());
  if (!compiled.ok()) return nullptr;
  const Status loaded = compiled.value()->LoadWeights(weights);
  EXPECT(loaded.ok());
  if (!loaded.ok()) std::printf("    %s\n", loaded.message().c_str());
  return std::move(compiled).value();
}

/// A runner of a model on devices of its own, or on those given.
inline Runner MakeRunner(const Model& model, const RunOptions& options = {},
                         const Drivers& drivers = NewDrivers()) {
  return Runner(model.program, Compile(model.program, model.weights, drivers, ToCompileOptions(options)));
}

inline Runner MakeReference(const Model& model, const RunOptions& options = {}) {
  return Runner(model, CpuIsa::kReference, 2, options.max_rows, options.max_head_rows, options.terms,
                options.kv_type);
}

/// What a head row wants: its best tokens.
inline HeadRow BestOf(int row, int candidates = 1) {
  HeadRow head;
  head.row = row;
  head.candidates = candidates;
  return head;
}

/// A model with one format for all matrices, narrow but with more than one split of k in the wide products.
inline ModelShape ShapeOf(DType matrix, DType table) {
  ModelShape shape = cpu_test::kLlama;
  shape.name = InfoOf(matrix).name;
  shape.width = 256;
  shape.layers = 2;
  shape.query_heads = 4;
  shape.head_dim = 64;
  shape.kv_heads = 2;
  shape.ffn = 512;
  shape.matrix_type = matrix;
  shape.table_type = table;
  shape.rope_dims = 64;
  return shape;
}

}  // namespace gpu_test
