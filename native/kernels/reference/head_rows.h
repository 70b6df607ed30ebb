#pragma once

#include <span>

#include "ops/step.h"

namespace tokenmill {

/// Works off one head row: what `row` asks of `logits` [vocabulary]. The order of every sum depends on the
/// vocabulary alone. When the row wants `full`, hands the logits to `sink` afterwards.
/// `thread` is the one that calls.
void ReduceHeadRow(const HeadRow& row, size_t head_index, std::span<float> logits, LogitSink* sink,
                   int thread, HeadResult* result);

}  // namespace tokenmill
