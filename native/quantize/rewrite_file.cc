#include "quantize/rewrite_file.h"

#include <algorithm>
#include <climits>
#include <mutex>

#include "core/thread_pool.h"
#include "io/output_file.h"
#include "io/text.h"
#include "quantize/convert_rows.h"

namespace tokenmill {
namespace {

/// What one task works on: this bounds memory, and how long others wait for the pool.
constexpr int64_t kPieceElements = 64 * 1024;
constexpr int kPiecesPerThread = 8;

/// Some rows of a tensor.
struct Piece {
  size_t tensor;  // of the output
  int64_t row;
  int64_t rows;
};

struct Buffers {
  std::vector<char> in, out;
  std::vector<float> values;
};

struct Output {
  const std::vector<RewrittenTensor>& tensors;
  const GgufLayout& layout;
  OutputFile& file;
};

class Rewriter {
 public:
  Rewriter(const GgufFile& source, const Output& output, int threads, TensorEditor* editor)
      : source_(source),
        output_(output),
        threads_(threads),
        editor_(editor),
        buffers_(static_cast<size_t>(threads)) {
    for (size_t t = 0; t < output.tensors.size(); ++t) {
      const std::array<uint64_t, 4>& shape = SourceOf(t).shape;
      const int64_t rows = static_cast<int64_t>(shape[1] * shape[2] * shape[3]);
      const int64_t at_once = std::max<int64_t>(1, kPieceElements / static_cast<int64_t>(shape[0]));
      for (int64_t row = 0; row < rows; row += at_once)
        pieces_.push_back({t, row, std::min(at_once, rows - row)});
    }
  }

  Status Run(const RewriteProgress& on_progress) {
    uint64_t done = 0, total = 0;
    for (size_t t = 0; t < output_.tensors.size(); ++t) total += SourceOf(t).bytes;
    const size_t batch = static_cast<size_t>(threads_) * kPiecesPerThread;
    for (size_t begin = 0; begin < pieces_.size(); begin += batch) {
      if (on_progress && !on_progress(done, total)) return Error(Code::kAborted, "writing was aborted");
      const size_t count = std::min(batch, pieces_.size() - begin);
      if (editor_ != nullptr) {
        TM_RETURN_IF_ERROR(editor_->Prepare(pieces_[begin].tensor, pieces_[begin + count - 1].tensor));
      }
      const Phase phase = {
          [count] { return static_cast<int>(count); },
          [this, begin](int task, int thread) { Work(begin + static_cast<size_t>(task), thread); }};
      ThreadPool::Process().Run({&phase, 1}, threads_);
      if (!failure_.ok()) return failure_;
      for (size_t i = begin; i < begin + count; ++i) done += InBytes(pieces_[i]);
    }
    if (on_progress && !on_progress(total, total)) return Error(Code::kAborted, "writing was aborted");
    return {};
  }

 private:
  const GgufTensor& SourceOf(size_t tensor) const {
    return source_.tensors()[output_.tensors[tensor].source];
  }

  uint64_t InBytes(const Piece& piece) const {
    const GgufTensor& tensor = SourceOf(piece.tensor);
    return RowBytes(tensor.dtype, static_cast<int64_t>(tensor.shape[0])) * static_cast<uint64_t>(piece.rows);
  }

  void Work(size_t index, int thread) {
    Status status;
    try {
      status = Convert(pieces_[index], &buffers_[static_cast<size_t>(thread)]);
    } catch (const std::bad_alloc&) {  // the pool's tasks must not throw
      status = Error(Code::kOutOfMemory, "the system refused memory for a tensor's row");
    }
    if (status.ok()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_.ok() && failed_ < index) return;
    failure_ = std::move(status);  // the first one, whichever thread comes first
    failed_ = index;
  }

  Status Convert(const Piece& piece, Buffers* buffers) {
    const GgufTensor& tensor = SourceOf(piece.tensor);
    const DType type = output_.tensors[piece.tensor].dtype;
    const int64_t cols = static_cast<int64_t>(tensor.shape[0]);
    const uint64_t in_row = RowBytes(tensor.dtype, cols), out_row = RowBytes(type, cols);
    const size_t in_bytes = static_cast<size_t>(in_row) * static_cast<size_t>(piece.rows);
    const size_t out_bytes = static_cast<size_t>(out_row) * static_cast<size_t>(piece.rows);
    const uint64_t to = output_.layout.offsets[piece.tensor] + static_cast<uint64_t>(piece.row) * out_row;
    buffers->in.resize(in_bytes);
    TM_RETURN_IF_ERROR(source_.file().ReadAt(tensor.offset + static_cast<uint64_t>(piece.row) * in_row,
                                             buffers->in.data(), in_bytes));
    const bool edits = editor_ != nullptr && editor_->Edits(piece.tensor);
    if (type == tensor.dtype && !edits) return output_.file.WriteAt(to, buffers->in.data(), in_bytes);
    buffers->out.resize(out_bytes);
    const RowEdit edit = [this, &piece](int64_t row, float* values) {
      editor_->Edit(piece.tensor, row, values);
    };
    TM_RETURN_IF_ERROR(ConvertRows({tensor.name, tensor.dtype, type, cols}, piece.row, piece.rows,
                                   buffers->in.data(), buffers->out.data(), &buffers->values,
                                   edits ? edit : RowEdit{}));
    return output_.file.WriteAt(to, buffers->out.data(), out_bytes);
  }

  const GgufFile& source_;
  const Output output_;
  const int threads_;
  TensorEditor* const editor_;
  std::vector<Buffers> buffers_;  // one a thread
  std::vector<Piece> pieces_;
  std::mutex mutex_;
  Status failure_;
  size_t failed_ = 0;
};

Status RefuseSameFile(const File& input, const std::string& output) {
  const auto existing = File::Open(output);
  if (!existing.ok()) return {};
  const FileIdentity &a = input.identity(), &b = existing.value()->identity();
  if (a.device != b.device || a.inode != b.inode) return {};
  return Error(Code::kInvalidArgument, "the output %s is the input itself; write to another file",
               Quoted(output, PATH_MAX).c_str());
}

/// The padding after the last tensor.
Status PadEnd(const GgufLayout& layout, uint64_t written, OutputFile* output) {
  const std::string padding(static_cast<size_t>(layout.bytes - written), '\0');
  return output->WriteAt(written, padding.data(), padding.size());
}

std::vector<GgufTensor> Described(const GgufFile& source, const std::vector<RewrittenTensor>& tensors) {
  std::vector<GgufTensor> described;
  for (const RewrittenTensor& tensor : tensors) {
    described.push_back(source.tensors()[tensor.source]);
    described.back().name = tensor.name;
    described.back().dtype = tensor.dtype;
  }
  return described;
}

}  // namespace

std::vector<RewrittenTensor> SameTensors(const GgufFile& source) {
  std::vector<RewrittenTensor> tensors;
  for (size_t t = 0; t < source.tensors().size(); ++t)
    tensors.push_back({t, source.tensors()[t].name, source.tensors()[t].dtype});
  return tensors;
}

Result<RewriteResult> RewriteFile(const GgufFile& source, const std::vector<RewrittenTensor>& tensors,
                                  const std::vector<GgufUint>& values, const std::string& output_path,
                                  const RewriteOptions& options, TensorEditor* editor,
                                  const RewriteProgress& on_progress) {
  TM_RETURN_IF_ERROR(RefuseSameFile(source.file(), output_path));
  const std::vector<GgufTensor> described = Described(source, tensors);
  TM_ASSIGN_OR_RETURN(const GgufLayout layout, LayOutGguf(source, described, values));
  TM_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> output,
                      OutputFile::Create(output_path, options.overwrite));
  TM_RETURN_IF_ERROR(output->WriteAt(0, layout.header.data(), layout.header.size()));
  TM_RETURN_IF_ERROR(Rewriter(source, {tensors, layout, *output}, options.threads, editor).Run(on_progress));

  RewriteResult result;
  uint64_t written = layout.header.size();
  for (size_t t = 0; t < described.size(); ++t) {
    const GgufTensor& tensor = described[t];
    const uint64_t rows = tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
    const uint64_t bytes = RowBytes(tensor.dtype, static_cast<int64_t>(tensor.shape[0])) * rows;
    RewriteResult::Share& share = result.types[InfoOf(tensor.dtype).name];
    ++share.tensors;
    share.bytes += bytes;
    written = layout.offsets[t] + bytes;
  }
  TM_RETURN_IF_ERROR(PadEnd(layout, written, output.get()));
  TM_RETURN_IF_ERROR(output->Publish());
  result.input_bytes = source.file().size();
  result.output_bytes = layout.bytes;
  return result;
}

}  // namespace tokenmill
