#pragma once

#include <stdint.h>

// The table through which a backend in a shared library of its own is used: plain C, so that library and engine may
// have different compilers, standard libraries and allocators. Whoever allocates frees; nothing throws across. Texts
// are UTF-8 and end with a zero byte. backend_client.h makes an Executor of a table, backend_server.h a table of
// executors; what the functions mean is said at Executor (ops/backend.h).

#ifdef __cplusplus
extern "C" {
#endif

/// Raised with every change of this file, of ops/program_bytes.cc or of core/error_codes.def.
enum { TM_BACKEND_VERSION = 1 };
enum { TM_KV_GROUPS = 2, TM_DEVICES = 16 };
/// Of KvType and AdapterFactor.
enum { TM_KV_F16 = 0, TM_KV_INT8 = 1 };
enum { TM_FACTOR_A = 0, TM_FACTOR_B = 1 };

/// 0 for success, else the place of a code in core/error_codes.def, from 1 on; a message says the rest.
typedef int32_t TmCode;

typedef struct TmMessage {
  char text[1024];
} TmMessage;

/// One that can be there and still be of no use.
typedef struct TmDevice {
  char name[128];
  char problem[256];  // why it cannot be used; empty when it can
  int32_t index;
  int32_t major, minor;  // compute capability
  int32_t multiprocessors;
  uint64_t memory_bytes;
} TmDevice;

/// Of CompileOptions, what concerns a device.
typedef struct TmOptions {
  int32_t max_rows;
  int32_t max_head_rows;
  int32_t threads;
  int32_t activation_terms;
  int32_t kv_type;
  int32_t device_count;  // 1 … TM_DEVICES
  int32_t devices[TM_DEVICES];  // indices of those that may be used
} TmOptions;

/// A compiled program, and an adapter that was loaded for it; of the library.
typedef struct TmExecutor TmExecutor;
typedef struct TmAdapter TmAdapter;

typedef struct TmSizes {
  uint64_t weight_bytes;
  uint64_t scratch_bytes;
} TmSizes;

/// Called from any thread, also from several at once.
typedef struct TmWeightSource {
  void* context;
  /// Writes rows as they are stored in the file, RowBytes(dtype, cols) * rows bytes.
  TmCode (*read)(void* context, int32_t weight, int64_t row, int64_t rows, void* out, TmMessage* message);
  /// Told the bytes read since the last call; 0 ends the load with Aborted.
  int32_t (*progress)(void* context, uint64_t bytes);
} TmWeightSource;

typedef struct TmFactors {
  int32_t matrix;
  int32_t rank;
  float scale;
  uint32_t dtype;  // the GGUF number of the element type
} TmFactors;

typedef struct TmAdapterSource {
  void* context;
  const TmFactors* factors;
  uint64_t factor_count;
  TmCode (*read)(void* context, uint64_t index, int32_t which, void* out, TmMessage* message);
} TmAdapterSource;

typedef struct TmAdapterUse {
  const TmAdapter* adapter;
  float scale;
} TmAdapterUse;

typedef struct TmSequence {
  int32_t row_begin;
  int32_t rows;
  int32_t position;
  uint32_t adapter_count;
  const TmAdapterUse* adapters;
  const int32_t* pages[TM_KV_GROUPS];
} TmSequence;

/// As LogitEdit, Candidate.
typedef struct TmEdit {
  int32_t token;
  float repetition;
  float subtract;
} TmEdit;

typedef struct TmCandidate {
  int32_t token;
  float logit;
  float raw;
} TmCandidate;

typedef struct TmHeadRow {
  int32_t row;
  int32_t candidates;
  int32_t raw_top;
  int32_t full;
  const TmEdit* edits;
  const int32_t* targets;
  uint32_t edit_count;
  uint32_t target_count;
} TmHeadRow;

/// As LogitSink; on threads of the library.
typedef struct TmSink {
  void* context;
  void (*take)(void* context, uint64_t head_index, float* logits, uint64_t count, int32_t thread);
} TmSink;

typedef struct TmStep {
  const int32_t* tokens;
  const TmSequence* sequences;
  const TmHeadRow* head;
  const TmSink* sink;  // or null
  uint32_t row_count;
  uint32_t sequence_count;
  uint32_t head_count;
} TmStep;

/// Of one head row. The caller gives room for as much as the row can have: the candidates it asks for, at most the
/// vocabulary, and all targets. The library sets how many it has written.
typedef struct TmHeadResult {
  TmCandidate* candidates;
  TmCandidate* raw_top;
  float* targets;
  uint32_t candidate_count;
  uint32_t raw_top_count;
  uint32_t target_count;
  int32_t finite;
  float log_sum_exp;
} TmHeadResult;

/// The sizes of this file's structures as the library was compiled.
typedef struct TmStructSizes {
  uint32_t backend, message, device, options, sizes, weight_source, factors, adapter_source;
  uint32_t adapter_use, sequence, edit, candidate, head_row, sink, step, head_result;
} TmStructSizes;

typedef struct TmBackend TmBackend;
struct TmBackend {
  uint32_t version;      // TM_BACKEND_VERSION
  uint32_t error_codes;  // how many codes the library knows
  TmStructSizes struct_sizes;

  /// Writes up to `capacity` devices and sets `count` to how many there are. DeviceUnavailable says what is missing.
  TmCode (*devices)(const TmBackend* self, TmDevice* out, uint64_t capacity, uint64_t* count,
                    TmMessage* message);
  /// A program (ops/program_bytes.h) without its weights.
  TmCode (*compile)(const TmBackend* self, const void* program, uint64_t bytes, const TmOptions* options,
                    TmExecutor** out, TmMessage* message);
  /// The same before the weights are loaded and afterwards.
  void (*sizes)(const TmExecutor* executor, TmSizes* out);
  uint64_t (*page_bytes)(const TmExecutor* executor, int32_t group);
  /// What its devices could still give.
  uint64_t (*available_bytes)(const TmExecutor* executor);
  TmCode (*load_weights)(TmExecutor* executor, const TmWeightSource* source, TmMessage* message);
  TmCode (*twin)(const TmExecutor* executor, int32_t max_rows, TmExecutor** out, TmMessage* message);
  /// Results for each head row of the step.
  TmCode (*run)(TmExecutor* executor, const TmStep* step, TmHeadResult* results, TmMessage* message);
  TmCode (*add_slab)(TmExecutor* executor, int32_t group, int32_t slab, int32_t pages, TmMessage* message);
  void (*remove_slab)(TmExecutor* executor, int32_t group, int32_t slab);
  void (*copy_page)(TmExecutor* executor, int32_t group, int32_t from, int32_t to);
  void (*read_page)(const TmExecutor* executor, int32_t group, int32_t page, int32_t tokens, void* out);
  void (*write_page)(TmExecutor* executor, int32_t group, int32_t page, const void* in);
  TmCode (*load_adapter)(const TmExecutor* executor, const TmAdapterSource* source, TmAdapter** out,
                         uint64_t* bytes, TmMessage* message);
  void (*destroy_adapter)(TmAdapter* adapter);
  void (*destroy)(TmExecutor* executor);
};

/// The one symbol of a library: its table, or null when it has none of this version. Valid as long as the process.
const TmBackend* tokenmill_backend(uint32_t version);
#define TM_BACKEND_SYMBOL "tokenmill_backend"

#ifdef __cplusplus
}  // extern "C"
#endif
