// CTC prefix scores; the recursion and its names are those of ../ctc.py, which calls this.
//
// Sums are kept in double, since they reach tens of thousands.  What is added to the greater of two addends, at most log 2,
// is computed in float.

#include <algorithm>
#include <cmath>
#include <vector>

#include "vectors.h"

namespace {

constexpr double LOG_ZERO = -1e10;

typedef double Doubles __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

extern "C" struct Prefixes {
  const float* log_probs;  // (frames, vocabulary) of each utterance, beginning at starts[utterance * start_step]
  int64_t vocabulary;
  const int64_t* starts;
  int64_t start_step;
  const int64_t *lengths, *last;   // (batch), (batch, held)
  const double *in_blank, *total;  // (batch, held, frames + 1)
  int64_t batch, held, frames, blank;

  const float* emissions(int64_t utterance) const { return log_probs + starts[utterance * start_step]; }

  // phi of a prefix and a token that follows it, from frame -1 on.
  const double* before(int64_t prefix, int64_t token) const {
    return (last[prefix] == token ? in_blank : total) + prefix * (frames + 1);
  }
};

inline double no_less_than_zero(float log_prob) { return log_prob < LOG_ZERO ? LOG_ZERO : log_prob; }

// log(e^a + e^b)
inline Doubles log_sum(Doubles a, Doubles b) {
  const Doubles greater = a > b ? a : b, less = a > b ? b : a;
  const Floats ratio = exponential(__builtin_convertvector(less - greater, Floats));
  // log(1 + ratio) = 2 artanh(s)
  const Floats s = ratio / (2.0f + ratio), square = s * s;
  Floats series = square * (1 / 11.0f) + 1 / 9.0f;
  series = series * square + 1 / 7.0f;
  series = series * square + 1 / 5.0f;
  series = series * square + 1 / 3.0f;
  series = series * square + 1.0f;
  return greater + __builtin_convertvector(2.0f * s * series, Doubles);
}

}  // namespace

extern "C" {

// scores (batch, held, count) of the prefixes with each of their candidates appended.
void ctc_scores(const Prefixes* prefixes, const int64_t* candidates, int64_t count, double* scores, int64_t threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<double> terms(prefixes->frames);
    std::vector<float> below(prefixes->frames + LANES);
    in_share(prefixes->batch * prefixes->held * count, [&](int64_t task) {
      const int64_t token = candidates[task], prefix = task / count, utterance = prefix / prefixes->held;
      const int64_t frames = prefixes->lengths[utterance];
      const float* emission = prefixes->emissions(utterance) + token;
      const double* before = prefixes->before(prefix, token);
      if (token == prefixes->blank) {
        scores[task] = LOG_ZERO;
        return;
      }
      double greatest = -INFINITY;
      for (int64_t t = 0; t < frames; ++t) {
        terms[t] = before[t] + no_less_than_zero(emission[t * prefixes->vocabulary]);
        greatest = std::max(greatest, terms[t]);
      }
      for (int64_t t = 0; t < frames; ++t) below[t] = static_cast<float>(terms[t] - greatest);
      std::fill_n(below.data() + frames, LANES, -INFINITY);
      Floats total = {};
      for (int64_t t = 0; t < frames; t += LANES) total += exponential(load(below.data() + t));
      scores[task] = greatest + std::log(sum(total));
    });
  }
}

// in_blank and total (batch, kept, frames + 1) of the prefixes at `parents` with `tokens` appended, (batch, kept) both; up to
// the frames that an utterance has.
void ctc_advance(const Prefixes* prefixes, const int64_t* parents, const int64_t* tokens, int64_t kept, double* in_blank,
                 double* total, int64_t threads) {
  const int64_t groups = (kept + LANES - 1) / LANES;
#pragma omp parallel num_threads(threads)
  in_share(prefixes->batch * groups, [&](int64_t task) {
    const int64_t utterance = task / groups, first = utterance * kept + task % groups * LANES;
    const int64_t lanes = std::min<int64_t>(LANES, (utterance + 1) * kept - first), room = prefixes->frames + 1;
    const float *emissions = prefixes->emissions(utterance), *emission[LANES];
    const double* before[LANES];
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t token = tokens[first + lane];
      emission[lane] = emissions + token;
      before[lane] = prefixes->before(utterance * prefixes->held + parents[first + lane], token);
    }
    Doubles label = Doubles{} + LOG_ZERO, blank = label, all = label, phi = label, x = label;
    for (int64_t t = 0;; ++t) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        in_blank[(first + lane) * room + t] = blank[lane];
        total[(first + lane) * room + t] = all[lane];
      }
      if (t == prefixes->lengths[utterance]) return;
      const float* frame = emissions + t * prefixes->vocabulary;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        phi[lane] = before[lane][t];
        x[lane] = no_less_than_zero(emission[lane][t * prefixes->vocabulary]);
      }
      const Doubles next = x + log_sum(label, phi);
      blank = no_less_than_zero(frame[prefixes->blank]) + log_sum(blank, label);
      label = next;
      all = log_sum(label, blank);
    }
  });
}
}
