#include "ops/program_bytes.h"

#include <cstring>
#include <string>
#include <utility>

#include "ops/program_check.h"

namespace tokenmill {
namespace {

constexpr uint32_t kMagic = 0x47504d54;  // "TMPG"
constexpr uint32_t kVersion = 1;

// What every structure consists of, in one order for both directions: an archive appends the fields or fills them.

template <class Archive>
void Fields(Archive& archive, Norm& norm) {
  archive(norm.weight, norm.epsilon);
}

template <class Archive>
void Fields(Archive& archive, Projection& projection) {
  archive(projection.matrix, projection.bias, projection.out);
}

template <class Archive>
void Fields(Archive& archive, Embed& op) {
  archive(op.table, op.scale, op.out);
}

template <class Archive>
void Fields(Archive& archive, NormProject& op) {
  archive(op.in, op.norm, op.projections);
}

template <class Archive>
void Fields(Archive& archive, RopeWriteKv& op) {
  archive(op.q, op.k, op.v, op.q_norm, op.k_norm, op.rope, op.kv_layer);
}

template <class Archive>
void Fields(Archive& archive, PagedAttention& op) {
  archive(op.q, op.out, op.kv_layer, op.scale, op.softcap);
}

template <class Archive>
void Fields(Archive& archive, ProjectAdd& op) {
  archive(op.in, op.matrix, op.bias, op.post_norm, op.residual);
}

template <class Archive>
void Fields(Archive& archive, GatedMlp& op) {
  archive(op.in, op.norm, op.gate, op.up, op.activation, op.out);
}

template <class Archive>
void Fields(Archive& archive, Head& op) {
  archive(op.in, op.norm, op.matrix, op.softcap);
}

template <class Archive>
void Fields(Archive& archive, WeightDesc& weight) {
  archive(weight.name, weight.dtype, weight.rows, weight.cols);
}

template <class Archive>
void Fields(Archive& archive, ValueDesc& value) {
  archive(value.width);
}

template <class Archive>
void Fields(Archive& archive, RopeTable& table) {
  archive(table.style, table.dims, table.frequencies, table.magnitude);
}

template <class Archive>
void Fields(Archive& archive, KvGroup& group) {
  archive(group.window, group.layers);
}

template <class Archive>
void Fields(Archive& archive, KvLayer& layer) {
  archive(layer.group, layer.index, layer.query_heads, layer.kv_heads, layer.head_dim);
}

template <class Archive>
void Fields(Archive& archive, Program& program) {
  archive(program.ops, program.weights, program.values, program.ropes, program.kv_groups, program.kv_layers,
          program.vocabulary);
}

bool IsKnown(DType dtype) { return FindDType(static_cast<uint32_t>(dtype)) != nullptr; }
bool IsKnown(Activation activation) { return activation <= Activation::kGeluTanh; }
bool IsKnown(RopeStyle style) { return style <= RopeStyle::kHalves; }

class Writer {
 public:
  template <class... Field>
  void operator()(Field&... fields) {
    (Put(fields), ...);
  }

  std::vector<std::byte> bytes;

 private:
  template <class Field>
  void Put(Field& field) {
    if constexpr (std::is_arithmetic_v<Field> || std::is_enum_v<Field>) {
      const auto* first = reinterpret_cast<const std::byte*>(&field);
      bytes.insert(bytes.end(), first, first + sizeof(field));
    } else {
      Fields(*this, field);
    }
  }

  void Put(std::string& text) {
    PutCount(text.size());
    const auto* first = reinterpret_cast<const std::byte*>(text.data());
    bytes.insert(bytes.end(), first, first + text.size());
  }

  template <class Element>
  void Put(std::vector<Element>& elements) {
    PutCount(elements.size());
    for (Element& element : elements) Put(element);
  }

  void Put(Op& op) {
    auto kind = static_cast<uint8_t>(op.index());
    Put(kind);
    std::visit([this](auto& concrete) { Put(concrete); }, op);
  }

  void PutCount(size_t size) {
    auto count = static_cast<uint32_t>(size);
    Put(count);
  }
};

// Once something is missing or unknown, nothing more is read.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class... Field>
  void operator()(Field&... fields) {
    (Take(fields), ...);
  }

  bool complete() const { return ok_ && rest_.empty(); }

 private:
  template <class Field>
  void Take(Field& field) {
    if constexpr (std::is_enum_v<Field>) {
      std::underlying_type_t<Field> value = 0;
      Take(value);
      ok_ = ok_ && IsKnown(static_cast<Field>(value));
      if (ok_) field = static_cast<Field>(value);
    } else if constexpr (std::is_arithmetic_v<Field>) {
      TakeBytes(&field, sizeof(field));
    } else {
      Fields(*this, field);
    }
  }

  void Take(std::string& text) {
    text.resize(TakeCount());
    TakeBytes(text.data(), text.size());
  }

  template <class Element>
  void Take(std::vector<Element>& elements) {
    const size_t count = TakeCount();
    for (size_t i = 0; i < count && ok_; ++i) {
      elements.emplace_back();
      Take(elements.back());
    }
  }

  void Take(Op& op) {
    uint8_t kind = 0;
    Take(kind);
    TakeAlternative(kind, &op, std::make_index_sequence<std::variant_size_v<Op>>());
  }

  template <size_t... kKind>
  void TakeAlternative(size_t kind, Op* op, std::index_sequence<kKind...>) {
    const bool known = ((kKind == kind && (Take(op->emplace<kKind>()), true)) || ...);
    ok_ = ok_ && known;
  }

  // Every element takes a byte at least, so that no count makes more of memory than the bytes warrant.
  size_t TakeCount() {
    uint32_t count = 0;
    Take(count);
    ok_ = ok_ && count <= rest_.size();
    return ok_ ? count : 0;
  }

  void TakeBytes(void* out, size_t size) {
    ok_ = ok_ && size <= rest_.size();
    if (!ok_ || size == 0) return;
    std::memcpy(out, rest_.data(), size);
    rest_ = rest_.subspan(size);
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace

std::vector<std::byte> EncodeProgram(const Program& program) {
  Writer writer;
  uint32_t magic = kMagic, version = kVersion;
  Program copy = program;
  writer(magic, version, copy);
  return std::move(writer.bytes);
}

Result<Program> DecodeProgram(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  uint32_t magic = 0, version = 0;
  reader(magic, version);
  if (magic != kMagic) return Error(Code::kInternal, "%zu bytes are no program", bytes.size());
  if (version != kVersion) {
    return Error(Code::kIncompatible, "a program has format %u; expected %u", version, kVersion);
  }
  Program program;
  reader(program);
  if (!reader.complete()) return Error(Code::kInternal, "a program of %zu bytes is damaged", bytes.size());
  TM_RETURN_IF_ERROR(CheckProgram(program));
  return program;
}

}  // namespace tokenmill
