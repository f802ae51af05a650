// Registers of floats, and what is computed with them; how threads share work.

#pragma once

#include <omp.h>

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<Floats*>(to) = values; }

// The sum of COUNT floats, halved until one is left: compilers make this a few instructions.
template <int COUNT = LANES>
inline float sum(const float* values) {
  if constexpr (COUNT == 1) return values[0];
  else {
    typedef float Half __attribute__((vector_size(2 * COUNT), aligned(4), may_alias));
    float half[COUNT / 2];
    *reinterpret_cast<Half*>(half) =
        *reinterpret_cast<const Half*>(values) + *reinterpret_cast<const Half*>(values + COUNT / 2);
    return sum<COUNT / 2>(half);
  }
}
inline float sum(Floats values) { return sum(reinterpret_cast<const float*>(&values)); }

// e^x for x of at most 88, off by some units in the last place, and 0 below -87.  n, of x = n log 2 + rest, goes into the
// exponent.
inline Floats exponential(Floats x) {
  constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it leaves n in the low bits
  const Floats shifted = x * 1.44269504f + ROUND;
  const Floats n = shifted - ROUND;
  const Floats rest = x - n * 0.693359375f + n * 2.12194440e-4f;
  Floats power = rest * 1.9875691500e-4f + 1.3981999507e-3f;
  power = power * rest + 8.3334519073e-3f;
  power = power * rest + 4.1665795894e-2f;
  power = power * rest + 1.6666665459e-1f;
  power = power * rest + 0.5f;
  power = power * rest * rest + rest + 1.0f;
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x < -87.0f ? Floats{} : power * scale;
}

// The part of `count` tasks that is this thread's.
template <typename Work>
void in_share(int64_t count, Work work) {
  const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
  for (int64_t task = count * thread / threads; task < count * (thread + 1) / threads; ++task) work(task);
}

}  // namespace
