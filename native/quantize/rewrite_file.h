#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/status.h"
#include "io/gguf.h"
#include "io/gguf_layout.h"

namespace tokenmill {

/// A tensor of a file to be written: one of the source's, under a name and in a type of its own.
struct RewrittenTensor {
  size_t source = 0;  // index into the source's tensors
  std::string name;
  DType dtype = DType::kF32;
};

/// Changes values of rewritten tensors, which it knows by their index.
class TensorEditor {
 public:
  virtual ~TensorEditor() = default;
  virtual bool Edits(size_t tensor) const = 0;
  /// Called before rows of the tensors first … last are edited, which ascend; nothing else runs meanwhile.
  virtual Status Prepare(size_t first, size_t last) = 0;
  /// Safe to use from several threads at once.
  virtual void Edit(size_t tensor, int64_t row, float* values) const = 0;
};

struct RewriteOptions {
  bool overwrite = false;
  int threads = 1;
};

struct RewriteResult {
  uint64_t input_bytes = 0;
  uint64_t output_bytes = 0;
  /// Tensors and their bytes by type, of the output.
  struct Share {
    int tensors = 0;
    uint64_t bytes = 0;
  };
  std::map<std::string, Share> types;
};

/// Told the bytes of weights done and all of them, on the calling thread; ends the work by returning false.
using RewriteProgress = std::function<bool(uint64_t done, uint64_t total)>;

/// The tensors of a file as they are.
std::vector<RewrittenTensor> SameTensors(const GgufFile& source);

/// Writes `source` to `output` with these tensors and metadata values, a block of rows at a time; rows that keep
/// their type and are not edited are copied. The output appears when it is complete; its bytes do not depend on the
/// threads. Aborted, InvalidArgument when both are the same file, errors of ConvertRows and OutputFile.
Result<RewriteResult> RewriteFile(const GgufFile& source, const std::vector<RewrittenTensor>& tensors,
                                  const std::vector<GgufUint>& values, const std::string& output,
                                  const RewriteOptions& options, TensorEditor* editor,
                                  const RewriteProgress& on_progress);

}  // namespace tokenmill
