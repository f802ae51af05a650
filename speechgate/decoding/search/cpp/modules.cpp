// The modules of a Transformer decoder for the few rows of a step, in float32; compiled.py compiles and calls them.
//
// With one row a hypothesis it is weights that a step moves.  So they lie in panels of PANEL outputs, (panels, inner,
// PANEL), each read once and in order, for a tile of rows at a time whose sums stay in registers.
//
// A thread takes some panels of a product, or some heads of an attention.  What is cheap, such as a norm, each does for
// itself, which spares it from waiting for the others.

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "vectors.h"

namespace {

constexpr int PANEL = 2 * LANES;
constexpr int TILE = LANES == 16 ? 8 : 6;  // rows whose sums, a panel each, fit into the registers
constexpr int AHEAD = 64;                  // lines

// Ask for what is read some lines later: processors look ahead no further than a page.
inline void prefetch(const float* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(from + i);
}

enum Activation : int64_t { NONE, RELU, GELU };

inline Floats activated(Floats x, int64_t activation) {
  if (activation == RELU) return x < 0.0f ? Floats{} : x;
  if (activation == NONE) return x;
  // x times the share of a normal distribution below x: erf of Abramowitz and Stegun, 7.1.26, off by 1.5e-7 at most.
  const Floats z = (x < 0.0f ? -x : x) * 0.70710678f;
  const Floats t = 1.0f / (1.0f + 0.3275911f * z);
  Floats series = 1.061405429f * t - 1.453152027f;
  series = series * t + 1.421413741f;
  series = series * t - 0.284496736f;
  series = series * t + 0.254829592f;
  const Floats tail = 0.5f * series * t * exponential(-z * z);
  return x * (x < 0.0f ? tail : 1.0f - tail);
}

// tile (ROWS, PANEL) = x (ROWS, inner), rows `x_step` apart, by a panel (inner, PANEL), lines `step` apart.
template <int ROWS>
void multiply(const float* x, int64_t x_step, int64_t inner, const float* panel, int64_t step, float* tile) {
  Floats sums[ROWS][2] = {};
  for (int64_t i = 0; i < inner; ++i, panel += step) {
    prefetch(panel + AHEAD * step, PANEL);
    const Floats left = load(panel), right = load(panel + LANES);
    for (int row = 0; row < ROWS; ++row) {
      sums[row][0] += x[row * x_step + i] * left;
      sums[row][1] += x[row * x_step + i] * right;
    }
  }
  for (int row = 0; row < ROWS; ++row) {
    store(tile + row * PANEL, sums[row][0]);
    store(tile + row * PANEL + LANES, sums[row][1]);
  }
}

// scores (ROWS, count), rows `score_step` apart = x (ROWS, inner) by keys (count, inner), lines `step` apart.
template <int ROWS>
void compare(const float* x, int64_t x_step, int64_t inner, const float* keys, int64_t step, int64_t count,
             float* scores, int64_t score_step) {
  for (int64_t k = 0; k < count; ++k, keys += step) {
    prefetch(keys + AHEAD / 2 * step, inner);
    Floats sums[ROWS] = {};
    int64_t i = 0;
    for (; i + LANES <= inner; i += LANES) {
      const Floats key = load(keys + i);
      for (int row = 0; row < ROWS; ++row) sums[row] += load(x + row * x_step + i) * key;
    }
    for (int row = 0; row < ROWS; ++row) {
      float score = sum(sums[row]);
      for (int64_t rest = i; rest < inner; ++rest) score += x[row * x_step + rest] * keys[rest];
      scores[row * score_step + k] = score;
    }
  }
}

// Call `work` with the number of rows of each tile as a constant.
template <int ROWS = TILE, typename Work>
void with_constant(int64_t rows, Work work) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS) work(std::integral_constant<int, ROWS>());
    else with_constant<ROWS - 1>(rows, work);
  }
}

template <typename Work>
void in_tiles(int64_t rows, Work work) {
  const int64_t tiles = (rows + TILE - 1) / TILE;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t begin = rows * tile / tiles, end = rows * (tile + 1) / tiles;
    with_constant(end - begin, [&](auto count) { work(begin, count); });
  }
}

extern "C" {
struct Norm {
  const float *weight, *bias;
  float eps;
};

struct Product {
  const float *panels, *bias;
  int64_t inner, outer;
};

struct Module {
  Norm norm;
  Product first, last;
  int64_t heads, activation;
};

struct Cache {  // keys, then values, (batch, 2, heads, slots, width of a head); how far apart they are
  float* at;
  int64_t batch, kind, head, slot;
};

struct Mask {  // addends, (batch, queries, slots); null where there are none
  const float* at;
  int64_t batch, query;
  // The slots that an utterance sees any of, (batch) both; null for the first and the last there is.
  const int64_t *begins, *ends;
};
}

std::vector<float> normalised(const Norm& norm, const float* x, int64_t rows, int64_t width) {
  std::vector<float> out(rows * width);
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = x + row * width;
    float mean = 0, square = 0;
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < width; ++i) mean += from[i];
    mean /= width;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < width; ++i) square += (from[i] - mean) * (from[i] - mean);
    const float scale = 1 / std::sqrt(square / width + norm.eps);
    for (int64_t i = 0; i < width; ++i)
      out[row * width + i] = (from[i] - mean) * scale * norm.weight[i] + norm.bias[i];
  }
  return out;
}

// out (rows, outer) = activation(x (rows, inner) by the weight + bias); this thread's panels.
void project(const Product& product, const float* x, int64_t rows, float* out, int64_t activation = NONE) {
  const int64_t inner = product.inner, outer = product.outer;
  in_share((outer + PANEL - 1) / PANEL, [&](int64_t panel) {
    const int64_t column = panel * PANEL, columns = std::min<int64_t>(PANEL, outer - column);
    float bias[PANEL] = {}, tile[TILE * PANEL];
    if (product.bias) std::copy_n(product.bias + column, columns, bias);
    in_tiles(rows, [&](int64_t begin, auto count) {
      multiply<count>(x + begin * inner, inner, inner, product.panels + column * inner, PANEL, tile);
      for (int row = 0; row < count; ++row) {
        for (int lane = 0; lane < PANEL; lane += LANES) {
          float* at = tile + row * PANEL + lane;
          store(at, activated(load(at) + load(bias + lane), activation));
        }
        std::copy_n(tile + row * PANEL, columns, out + (begin + row) * outer + column);
      }
    });
  });
}

// Scores of one query to what it may give to each slot, all of them summing to 1.
void softmax(float* scores, int64_t padded, int64_t slots, float scale, const float* mask) {
  for (int64_t slot = 0; slot < slots; ++slot) scores[slot] = scores[slot] * scale + (mask ? mask[slot] : 0.0f);
  std::fill(scores + slots, scores + padded, -INFINITY);
  Floats greatest = load(scores), total = {};
  for (int64_t slot = LANES; slot < padded; slot += LANES) {
    const Floats some = load(scores + slot);
    greatest = some > greatest ? some : greatest;
  }
  float lanes[LANES];
  store(lanes, greatest);
  const float most = *std::max_element(lanes, lanes + LANES);
  for (int64_t slot = 0; slot < padded; slot += LANES) {
    const Floats power = exponential(load(scores + slot) - most);
    store(scores + slot, power);
    total += power;
  }
  const float share = 1 / sum(total);
  for (int64_t slot = 0; slot < padded; slot += LANES) store(scores + slot, load(scores + slot) * share);
}

}  // namespace

extern "C" {

int64_t panel_width() { return PANEL; }

void linear(const Product* product, const float* x, int64_t rows, float* out, int64_t threads) {
#pragma omp parallel num_threads(threads)
  project(*product, x, rows, out);
}

// x and out: (rows, width of the decoder).
void feed_forward(const Module* module, const float* x, int64_t rows, float* out, int64_t threads) {
  std::vector<float> hidden(rows * module->first.outer);
#pragma omp parallel num_threads(threads)
  {
    project(module->first, normalised(module->norm, x, rows, module->first.inner).data(), rows, hidden.data(),
            module->activation);
#pragma omp barrier
    project(module->last, hidden.data(), rows, out);
  }
}

// x and out: (batch, queries, width of the decoder).  If the first product gives keys and values too, they go into the
// last of the `slots` of the cache that are attended to.
void attention(const Module* module, const float* x, int64_t batch, int64_t queries, const Cache* cache, int64_t slots,
               const Mask* mask, float* out, int64_t threads) {
  const int64_t rows = batch * queries, inner = module->last.inner, width = inner / module->heads;
  const int64_t outer = module->first.outer, room = (slots + LANES - 1) / LANES * LANES;
  std::vector<float> projected(rows * outer), attended(rows * inner);
#pragma omp parallel num_threads(threads)
  {
    project(module->first, normalised(module->norm, x, rows, module->first.inner).data(), rows, projected.data());
    std::vector<float> scores(TILE * room);
#pragma omp barrier
    in_share(batch * module->heads, [&](int64_t task) {
      const int64_t utterance = task / module->heads, head = task % module->heads;
      const float* query = projected.data() + utterance * queries * outer + head * width;
      float* keys = cache->at + utterance * cache->batch + head * cache->head;
      float* values = keys + cache->kind;
      if (outer > inner) {
        for (int64_t slot = 0; slot < queries; ++slot) {
          const int64_t to = (slots - queries + slot) * cache->slot;
          std::copy_n(query + slot * outer + inner, width, keys + to);
          std::copy_n(query + slot * outer + 2 * inner, width, values + to);
        }
      }
      const int64_t first = mask->begins ? mask->begins[utterance] : 0;
      const int64_t seen = (mask->ends ? mask->ends[utterance] : slots) - first;
      const int64_t padded = (seen + LANES - 1) / LANES * LANES;
      keys += first * cache->slot;
      values += first * cache->slot;
      in_tiles(queries, [&](int64_t begin, auto count) {
        compare<count>(query + begin * outer, outer, width, keys, cache->slot, seen, scores.data(), padded);
        for (int row = 0; row < count; ++row)
          softmax(scores.data() + row * padded, padded, seen, 1 / std::sqrt(static_cast<float>(width)),
                  mask->at ? mask->at + utterance * mask->batch + (begin + row) * mask->query + first : nullptr);
        float* to = attended.data() + (utterance * queries + begin) * inner + head * width;
        int64_t column = 0;
        for (; column + PANEL <= width; column += PANEL) {
          float tile[count * PANEL];
          multiply<count>(scores.data(), padded, seen, values + column, cache->slot, tile);
          for (int row = 0; row < count; ++row) std::copy_n(tile + row * PANEL, PANEL, to + row * inner + column);
        }
        for (; column < width; ++column)
          for (int row = 0; row < count; ++row) {
            float value = 0;
            for (int64_t slot = 0; slot < seen; ++slot)
              value += scores[row * padded + slot] * values[slot * cache->slot + column];
            to[row * inner + column] = value;
          }
      });
    });
#pragma omp barrier
    project(module->last, attended.data(), rows, out);
  }
}
}
