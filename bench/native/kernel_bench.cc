// Time of each operation of the CPU backend on shapes of real models, beside the machine's limits.
//   kernel_bench [threads=N] [rounds=N] [op=NAME] [format=NAME] [shape=TEXT] [rows=N] [reference=0]
// Prints JSON lines: the limits now and then, and each operation with its seconds, its arithmetic, the bytes of
// weights or keys and values that it has to read, and the seconds of the reference backend. A step's other work is
// subtracted. TOKENMILL_ISA chooses the instruction set.

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/cpu_features.h"
#include "engine/device.h"
#include "machine_limits.h"
#include "op_programs.h"
#include "program_runner.h"

using namespace tokenmill;
using namespace tokenmill::bench;

namespace {

constexpr DType kFormats[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ5_0,
                              DType::kQ5_1, DType::kQ5_K, DType::kQ6_K, DType::kQ8_0,
                              DType::kF16,  DType::kBF16, DType::kF32};
constexpr int kRowCounts[] = {1, 2, 3, 4, 8, 32, 512};
constexpr int kReferenceRows = 4;  // the reference takes the same time for each row

struct Options {
  int threads = 0;
  int rounds = 7;
  int rows = 0;
  std::string op, format, shape;
  bool reference = true;
};

/// What is measured, and what it has to do at least.
struct Case {
  const char* op;
  const char* format;
  const char* shape;
  std::string rows;
  double operations;  // two a multiply-add
  double bytes;
  bool integer;  // whether the arithmetic is dots of integers
};

class KernelBench {
 public:
  KernelBench(const Options& options, CpuIsa isa) : options_(options), isa_(isa) {}

  void Run() {
    if (Wanted(options_.op, "matmul")) {
      for (const DType format : kFormats) {
        for (const MatrixShape& shape : kMatrixShapes) Matmul(format, shape);
      }
    }
    if (Wanted(options_.op, "attention")) {
      for (const AttentionShape& shape : kAttentionShapes) Attention(shape);
    }
    if (Wanted(options_.op, "head")) {
      for (const HeadShape& shape : kHeadShapes) HeadOf(shape);
    }
    if (Wanted(options_.op, "norm")) {
      for (const MatrixShape& shape : {kMatrixShapes[0], kMatrixShapes[4]}) NormOf(shape);
    }
  }

 private:
  static bool Wanted(const std::string& filter, const char* name) {
    return filter.empty() || std::string(name).find(filter) != std::string::npos;
  }

  bool WantedRows(int rows) const { return options_.rows == 0 || options_.rows == rows; }

  /// Measures the limits when the last ones are old or could not be measured, with threads that are gone afterwards.
  void RefreshLimits() {
    if (measured_at_ > 0 && Seconds() < measured_at_ + 10) return;
    Team team(options_.threads);
    const ReadMemory memory(size_t{96} << 20);
    const ArithmeticLimit integer = MeasureArithmetic(team, IntegerKernels(), 0.2);
    const ArithmeticLimit real = MeasureArithmetic(team, FloatKernels(), 0.2);
    PrintLimits(options_.threads, integer, real, MeasureRead(team, memory, 0.3));
    measured_at_ = integer.operations_per_second > 0 && real.operations_per_second > 0 ? Seconds() : 0;
  }

  /// `seconds` is called once to warm up and once a round; `reference` is 0 where it has not been run.
  void Report(const Case& one, const std::function<double()>& seconds, double reference) {
    seconds();
    std::printf(
        "{\"op\":\"%s\",\"format\":\"%s\",\"shape\":\"%s\",\"rows\":\"%s\",\"operations\":%.6g,\"bytes\":%."
        "6g,"
        "\"integer\":%s,\"referenceSeconds\":%.4g,\"seconds\":[",
        one.op, one.format, one.shape, one.rows.c_str(), one.operations, one.bytes,
        one.integer ? "true" : "false", reference);
    for (int round = 0; round < options_.rounds; ++round) {
      std::printf("%s%.4g", round == 0 ? "" : ",", std::max(seconds(), 1e-9));
    }
    std::printf("]}\n");
    std::fflush(stdout);
  }

  ProgramRunner Ours(Program program, int max_rows, int pages = 0) const {
    return ProgramRunner(std::move(program), isa_, options_.threads, max_rows, pages);
  }

  ProgramRunner Reference(Program program, int pages = 0) const {
    return ProgramRunner(std::move(program), CpuIsa::kReference, options_.threads, kReferenceRows, pages);
  }

  /// Seconds of the reference for `rows` rows, from the few that it computes.
  double ReferenceSeconds(ProgramRunner& reference, StepShape step, int rows) const {
    step.rows = std::min(rows, kReferenceRows);
    step.position += rows - step.rows;
    reference.Seconds(step);
    return reference.Seconds(step) * rows / step.rows;
  }

  void Matmul(DType format, const MatrixShape& shape) {
    const DTypeInfo& info = InfoOf(format);
    if (!Wanted(options_.format, info.name) || !Wanted(options_.shape, shape.name)) return;
    if (shape.cols % static_cast<int>(info.block_elements) != 0) return;
    RefreshLimits();
    const int copies = CopiesFor(shape, format);
    ProgramRunner with = Ours(MatmulProgram(shape, format, copies), 512);
    ProgramRunner without = Ours(EmptyProgram(shape.cols), 512);
    std::unique_ptr<ProgramRunner> reference;
    if (options_.reference) {
      reference = std::make_unique<ProgramRunner>(Reference(MatmulProgram(shape, format, 1)));
    }
    const double matrix_bytes = static_cast<double>(RowBytes(format, shape.cols)) * shape.rows;
    const bool integer = format != DType::kF32 && format != DType::kF16 && format != DType::kBF16;
    for (const int rows : kRowCounts) {
      if (!WantedRows(rows)) continue;
      const double operations = 2.0 * rows * shape.rows * shape.cols;
      const Case one = {"matmul",   info.name,    shape.name, std::to_string(rows),
                        operations, matrix_bytes, integer};
      const auto seconds = [&] {
        return (with.Seconds({1, rows, 0}) - without.Seconds({1, rows, 0})) / copies;
      };
      Report(one, seconds, reference ? ReferenceSeconds(*reference, {}, rows) : 0);
    }
  }

  void Attention(const AttentionShape& shape) {
    if (!Wanted(options_.shape, shape.name)) return;
    const StepShape steps[] = {{1, 512, 0}, {1, 512, 3584}, {1, 1, 511}, {1, 1, 4095}, {8, 1, 1023}};
    for (const StepShape& step : steps) {
      if (!WantedRows(step.rows)) continue;
      RefreshLimits();
      const int end = step.position + step.rows;
      const int pages = step.sequences * ((end + kPageTokens - 1) / kPageTokens);
      const int layers = step.rows == 1 ? shape.layers : std::min(shape.layers, 4);
      ProgramRunner with = Ours(AttentionProgram(shape, layers), 512, pages);
      ProgramRunner without = Ours(EmptyProgram(32), 512);
      double reference_seconds = 0;
      if (options_.reference) {
        ProgramRunner reference = Reference(AttentionProgram(shape, 1), pages);
        const StepShape single = {1, step.rows, step.position};
        reference_seconds = ReferenceSeconds(reference, single, step.rows) * step.sequences;
      }
      const double visible = step.sequences * step.rows * (step.position + (step.rows + 1) / 2.0);
      const double kv_elements = 2.0 * step.sequences * end * shape.kv_heads * shape.head_dim;
      const std::string rows =
          std::to_string(step.sequences * step.rows) + " at " + std::to_string(step.position);
      const double operations = 4.0 * visible * shape.query_heads * shape.head_dim;
      const Case one = {"attention", "f16 KV", shape.name, rows, operations, 2 * kv_elements, false};
      const auto seconds = [&] { return (with.Seconds(step) - without.Seconds(step)) / layers; };
      Report(one, seconds, reference_seconds);
    }
  }

  void HeadOf(const HeadShape& shape) {
    const DTypeInfo& info = InfoOf(shape.dtype);
    if (!Wanted(options_.shape, shape.name) || !Wanted(options_.format, info.name)) return;
    RefreshLimits();
    ProgramRunner head = Ours(HeadProgram(shape), 32);
    const double table_bytes = static_cast<double>(RowBytes(shape.dtype, shape.width)) * shape.vocabulary;
    for (const int rows : {1, 8, 32}) {
      if (!WantedRows(rows)) continue;
      double reference_seconds = 0;
      if (options_.reference && rows == 1) {
        ProgramRunner reference = Reference(HeadProgram(shape));
        reference_seconds = reference.Seconds({1, 1, 0, true});
      }
      const double operations = 2.0 * rows * shape.vocabulary * shape.width;
      const Case one = {"head", info.name, shape.name, std::to_string(rows), operations, table_bytes, true};
      const auto seconds = [&] {
        return head.Seconds({rows, 1, 0, true}) - head.Seconds({rows, 1, 0, false});
      };
      Report(one, seconds, reference_seconds);
    }
  }

  /// Twice the time with one small product less the time with two. The reference does not quantize.
  void NormOf(const MatrixShape& shape) {
    if (!Wanted(options_.shape, shape.name)) return;
    constexpr int kCopies = 64;
    RefreshLimits();
    ProgramRunner single = Ours(NormProgram(shape.cols, 1, kCopies), 512);
    ProgramRunner twice = Ours(NormProgram(shape.cols, 2, kCopies), 512);
    ProgramRunner without = Ours(EmptyProgram(shape.cols), 512);
    ProgramRunner reference = Reference(NormProgram(shape.cols, 0, kCopies));
    for (const int rows : {1, 8, 512}) {
      if (!WantedRows(rows)) continue;
      const double elements = static_cast<double>(rows) * shape.cols;
      const Case one = {"norm + quantize", "f32",        shape.name, std::to_string(rows),
                        5 * elements,      5 * elements, false};
      const auto seconds = [&] {
        const StepShape step = {1, rows, 0};
        return (2 * single.Seconds(step) - twice.Seconds(step) - without.Seconds(step)) / kCopies;
      };
      Report(one, seconds, options_.reference ? ReferenceSeconds(reference, {}, rows) / kCopies : 0);
    }
  }

  const Options options_;
  const CpuIsa isa_;
  double measured_at_ = 0;
};

bool Parse(const char* argument, Options* options) {
  const std::string text = argument;
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return false;
  const std::string key = text.substr(0, equals), value = text.substr(equals + 1);
  if (key == "threads") options->threads = std::atoi(value.c_str());
  else if (key == "rounds") options->rounds = std::max(1, std::atoi(value.c_str()));
  else if (key == "rows") options->rows = std::atoi(value.c_str());
  else if (key == "op") options->op = value;
  else if (key == "format") options->format = value;
  else if (key == "shape") options->shape = value;
  else if (key == "reference") options->reference = value != "0";
  else return false;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (Parse(argv[i], &options)) continue;
    std::fprintf(stderr, "unknown parameter '%s'\n", argv[i]);
    return 2;
  }
  if (options.threads <= 0) options.threads = UsableCores();
  const Result<Device> device = SelectDevice();
  if (!device.ok() || device.value().isa == CpuIsa::kReference) {
    std::fprintf(stderr, "this CPU has no kernels of its own to measure\n");
    return 1;
  }
  std::printf("{\"isa\":\"%s\",\"threads\":%d}\n", IsaName(device.value().isa), options.threads);
  KernelBench(options, device.value().isa).Run();
  return 0;
}
