#include "adapter/adapter_target.h"

#include <charconv>
#include <string_view>

#include "ops/adapter_check.h"

namespace tokenmill {
namespace {

WeightId HeadOf(const Program& program) {
  for (const Op& op : program.ops) {
    if (const auto* head = std::get_if<Head>(&op)) return head->matrix;
  }
  return kNone;
}

WeightId FindMatrix(const Program& program, const std::string& tensor) {
  if (tensor == kHeadTensor) return HeadOf(program);
  for (const Op& op : program.ops) {
    if (std::holds_alternative<Head>(op)) continue;  // it may be the embedding's table
    for (const WeightId matrix : LinearMatrices(op)) {
      if (program.weights[static_cast<size_t>(matrix)].name == tensor) return matrix;
    }
  }
  return kNone;
}

Status RefuseEmbedding(const std::string& target) {
  return Error(
      Code::kUnsupportedModel,
      "'%s' of the adapter is the embedding; linear layers alone can be adapted: merge it with PEFT and "
      "convert the model, or train without it",
      target.c_str());
}

Status Absent(const ModelFile& model, const std::string& target) {
  return Error(Code::kIncompatible,
               "'%.200s' of the adapter is no linear layer of this model ('%s', %s, %d layers): is it the "
               "adapter's base model?",
               target.c_str(), model.name.c_str(), model.architecture.c_str(), model.spec.layers);
}

/// "model.layers.3.mlp.up_proj" without what models of several parts put before "layers".
std::string_view WithoutPrefix(std::string_view module) {
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view prefix : {"model.", "language_model."}) {
      if (!module.starts_with(prefix)) continue;
      module.remove_prefix(prefix.size());
      found = true;
    }
  }
  return module;
}

/// The module within its layer and the layer's number, or "" for what is in none.
std::string_view SplitLayer(std::string_view module, int* layer) {
  constexpr std::string_view kLayers = "layers.";
  if (!module.starts_with(kLayers)) return "";
  module.remove_prefix(kLayers.size());
  const auto [end, failure] = std::from_chars(module.data(), module.data() + module.size(), *layer);
  if (failure != std::errc() || end == module.data() + module.size() || *end != '.' || *layer < 0) return "";
  return module.substr(static_cast<size_t>(end - module.data()) + 1);
}

int HeadsOf(const ModelFile& model, PairedRows paired) {
  if (paired == PairedRows::kNone) return 0;
  return paired == PairedRows::kQueryHeads ? model.spec.query_heads : model.spec.kv_heads;
}

const ModuleName* FindModule(const ModelFile& model, std::string_view module) {
  for (const Architecture& architecture : Architectures()) {
    if (model.architecture != architecture.name) continue;
    for (const ModuleName& name : architecture.modules) {
      if (module == name.module) return &name;
    }
  }
  return nullptr;
}

Result<AdapterTarget> FindModuleTarget(const ModelFile& model, const std::string& target) {
  const std::string_view module = WithoutPrefix(target);
  if (module == "embed_tokens") return RefuseEmbedding(target);
  if (module == "lm_head") return AdapterTarget{FindMatrix(model.program, kHeadTensor)};
  int layer = 0;
  const ModuleName* name = FindModule(model, SplitLayer(module, &layer));
  if (name == nullptr) return Absent(model, target);
  const std::string tensor = "blk." + std::to_string(layer) + "." + name->tensor + ".weight";
  const WeightId matrix = FindMatrix(model.program, tensor);
  if (matrix == kNone) return Absent(model, target);
  return AdapterTarget{matrix, HeadsOf(model, name->paired)};
}

}  // namespace

Result<AdapterTarget> FindTarget(const ModelFile& model, TargetNames names, const std::string& target) {
  if (names == TargetNames::kModules) return FindModuleTarget(model, target);
  if (target == "token_embd.weight") return RefuseEmbedding(target);
  const WeightId matrix = FindMatrix(model.program, target);
  if (matrix == kNone) return Absent(model, target);
  return AdapterTarget{matrix};
}

}  // namespace tokenmill
