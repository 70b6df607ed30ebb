#include "kernels/cpu/products.h"

#include <algorithm>
#include <numeric>

namespace tokenmill::cpu {
namespace {

// Rows that go through a pair of strips at once: whole tiles of 4, 6 or 8. Their results wait in the first-level
// cache.
constexpr int kTileRows = 24;
static_assert(kTileRows <= AdapterRows::kRowsMost);
// So few rows are done before the next weights are there.
constexpr int kStreamRows = 4;
// Part of a core's second-level cache that the activations of a block of rows may take.
constexpr int64_t kBlockBytes = 192 * 1024;

int TileRows(const CpuKernels& kernels, const PackedMatrix& matrix) {
  return kernels.tile_rows[static_cast<int>(matrix.format)];
}

}  // namespace

Grid::Grid(int rows, const RowBuffer& in, int pairs, int tile_rows, int threads) {
  const int64_t row_bytes =
      in.terms * (in.width / kBlock) * static_cast<int64_t>(sizeof(ActivationBlock)) + 1;
  const int most = static_cast<int>(std::max<int64_t>(16, kBlockBytes / row_bytes));
  row_blocks = (rows + most - 1) / most;
  row_block = row_blocks == 0 ? 1 : (rows + row_blocks - 1) / row_blocks;
  row_block = (row_block + tile_rows - 1) / tile_rows * tile_rows;
  row_blocks = (rows + row_block - 1) / row_block;
  // Few rows wait for memory, which long stretches of weights suit; many rows for the slowest thread.
  const int runs_a_thread = rows <= kStreamRows ? 4 : 8;
  const int wanted = std::max(1, runs_a_thread * threads / std::max(1, row_blocks));
  run_pairs = std::max(1, pairs / wanted);
  runs = (pairs + run_pairs - 1) / run_pairs;
}

void MultiplyPair(const CpuKernels& kernels, const PackedMatrix& matrix, int64_t pair, const RowBuffer& in,
                  int row, int rows, bool first, SoonRead* soon, float* tile) {
  MatmulArgs args = {};
  args.prefetch = first;
  args.soon = soon;
  args.weights = matrix.pair(pair);
  args.k = matrix.cols;
  args.rows = rows;
  args.out = tile;
  args.stride = in.width;
  switch (matrix.input()) {
    case InputForm::kFloats:
      args.floats = in.row(row);
      break;
    case InputForm::kBlocks:
      args.blocks = in.row_blocks(row);
      args.stride = in.width / kBlock;
      args.rows = rows * in.terms;  // the terms of a row lie one behind the other, as rows do
      break;
    case InputForm::kBf16:
      args.bf16 = in.row_bf16(row);
      break;
  }
  kernels.matmul[static_cast<int>(matrix.format)](args);
  if (args.rows == rows) return;
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < kPairColumns; ++c) {
      tile[r * kPairColumns + c] = tile[2 * r * kPairColumns + c] + tile[(2 * r + 1) * kPairColumns + c];
    }
  }
}

Products::Products(const StepState* state, RowBuffer in, std::vector<Product> products,
                   AdapterProducts adapters)
    : state_(state), in_(in), products_(std::move(products)), adapters_(std::move(adapters)) {
  for (const Product& product : products_) {
    pairs_ += product.matrix->pairs;
    tile_rows_ = std::lcm(tile_rows_, TileRows(*state_->kernels, *product.matrix));
  }
}

Grid Products::GridOf(int rows) const { return Grid(rows, in_, pairs_, tile_rows_, state_->threads); }

int Products::Tasks(int rows) const { return GridOf(rows).tasks(); }

void Products::Run(int task, int rows) const {
  const Grid grid = GridOf(rows);
  const int row_begin = task / grid.runs * grid.row_block;
  const int row_end = std::min(rows, row_begin + grid.row_block);
  const int first = task % grid.runs * grid.run_pairs;
  const int last = std::min(pairs_, first + grid.run_pairs);
  alignas(64) float tile[kTermsMax * kTileRows * kPairColumns];
  int base = 0;  // of the product's pairs in all pairs
  for (size_t index = 0; index < products_.size(); ++index) {
    const Product& product = products_[index];
    const PackedMatrix& matrix = *product.matrix;
    for (int pair = std::max(first, base) - base; pair < std::min(last - base, matrix.pairs); ++pair) {
      const int column = pair * kPairColumns;
      const int columns = static_cast<int>(std::min<int64_t>(kPairColumns, matrix.rows - column));
      for (int row = row_begin; row < row_end; row += kTileRows) {
        const int count = std::min(kTileRows, row_end - row);
        SoonRead soon;
        MultiplyPair(*state_->kernels, matrix, pair, in_, row, count, row == row_begin,
                     adapters_.ReadSoon(index, pair, row, count, &soon), tile);
        adapters_.Expand(index, pair, row, count, tile);
        state_->kernels->store_tile(tile, count, columns,
                                    product.bias == nullptr ? nullptr : product.bias + column, product.add,
                                    product.out + row * product.out_stride + column, product.out_stride);
      }
    }
    base += matrix.pairs;
  }
}

GatedProduct::GatedProduct(const StepState* state, RowBuffer in, const PackedMatrix* gate,
                           const PackedMatrix* up, Activation activation, RowBuffer out,
                           AdapterProducts adapters)
    : state_(state),
      in_(in),
      gate_(gate),
      up_(up),
      activation_(activation),
      out_(out),
      adapters_(std::move(adapters)),
      tile_rows_(std::lcm(TileRows(*state->kernels, *gate), TileRows(*state->kernels, *up))) {}

Grid GatedProduct::GridOf(int rows) const {
  return Grid(rows, in_, gate_->pairs, tile_rows_, state_->threads);
}

int GatedProduct::Tasks(int rows) const { return GridOf(rows).tasks(); }

void GatedProduct::Run(int task, int rows) const {
  const Grid grid = GridOf(rows);
  const int row_begin = task / grid.runs * grid.row_block;
  const int row_end = std::min(rows, row_begin + grid.row_block);
  const int first = task % grid.runs * grid.run_pairs;
  const int last = std::min(gate_->pairs, first + grid.run_pairs);
  for (int pair = first; pair < last; ++pair) RunPair(pair, row_begin, row_end);
}

void GatedProduct::RunPair(int pair, int row_begin, int row_end) const {
  const CpuKernels& kernels = *state_->kernels;
  const int column = pair * kPairColumns;
  const int columns = static_cast<int>(std::min<int64_t>(kPairColumns, gate_->rows - column));
  alignas(64) float gate[kTermsMax * kTileRows * kPairColumns];
  alignas(64) float up[kTermsMax * kTileRows * kPairColumns];
  for (int row = row_begin; row < row_end; row += kTileRows) {
    const int count = std::min(kTileRows, row_end - row);
    SoonRead soon;
    MultiplyPair(kernels, *gate_, pair, in_, row, count, row == row_begin,
                 adapters_.ReadSoon(0, pair, row, count, &soon), gate);
    adapters_.Expand(0, pair, row, count, gate);
    MultiplyPair(kernels, *up_, pair, in_, row, count, row == row_begin,
                 adapters_.ReadSoon(1, pair, row, count, &soon), up);
    adapters_.Expand(1, pair, row, count, up);
    kernels.gated[static_cast<int>(activation_)](gate, up, gate, count * kPairColumns);
    for (int i = 0; out_.rounded() && i < count; ++i) {
      out_.Round(kernels, row + i, column, gate + i * kPairColumns, columns);
    }
    if (out_.floats != nullptr) {
      kernels.store_tile(gate, count, columns, nullptr, false, out_.row(row) + column, out_.width);
    }
  }
}

}  // namespace tokenmill::cpu
