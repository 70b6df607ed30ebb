// encode_cli TYPE [round]: encodes f32 values from stdin (whole blocks, to the end) and writes the blocks to
// stdout; with `round`, by round-to-nearest. For test/oracle/quantize_compare.py.
#include <cstdio>
#include <cstring>
#include <vector>

#include "quant/encode.h"
#include "quant/quant.h"

int main(int argc, char** argv) {
  using namespace tokenmill;
  const DTypeInfo* type = nullptr;
  for (uint32_t id = 0; argc > 1 && id < 64; ++id) {
    const DTypeInfo* info = FindDType(id);
    if (info != nullptr && info->runs && std::strcmp(info->name, argv[1]) == 0) type = info;
  }
  if (type == nullptr) {
    std::fprintf(stderr, "usage: encode_cli TYPE [round] < values > blocks\n");
    return 2;
  }
  std::vector<float> values(256 * 1024);
  std::vector<char> blocks(RowBytes(type->dtype, static_cast<int64_t>(values.size())));
  while (const size_t count = std::fread(values.data(), sizeof(float), values.size(), stdin)) {
    (argc > 2 ? QuantizeRow : EncodeRow)(type->dtype, values.data(), blocks.data(),
                                         static_cast<int64_t>(count));
    std::fwrite(blocks.data(), 1, RowBytes(type->dtype, static_cast<int64_t>(count)), stdout);
  }
  return 0;
}
