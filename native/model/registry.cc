#include "model/arch/arch.h"
#include "model/decoder_spec.h"

namespace tokenmill {

const std::vector<Architecture>& Architectures() {
  static const std::vector<Architecture> architectures = {
      {"llama", ReadLlamaSpec},
      {"gemma3", ReadGemma3Spec},
  };
  return architectures;
}

}  // namespace tokenmill
