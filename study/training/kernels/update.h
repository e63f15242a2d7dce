// One step of an optimizer for one member: `ablations.update_rule.UpdateRule` in one pass over its weights.
#pragma once

#include <math.h>

#include "vectors.h"

struct Rule {
    float max_norm, coupled_decay, first_decay, first_gain, second_decay, second_gain, epsilon;
    int adaptive, nesterov;
};

// The Euclidean norm, of sums in double precision and in an order that no width of vectors changes.
static double norm(const float *values, int64_t count) {
    double sums[16] = {};
    int64_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (int j = 0; j < 16; j++) sums[j] += (double)values[i + j] * values[i + j];
    for (; i < count; i++) sums[0] += (double)values[i] * values[i];
    double sum = 0;
    for (double part : sums) sum += part;
    return sqrt(sum);
}

template <bool ADAPTIVE, bool NESTEROV>
INLINE void update(const Rule &rule, int64_t count, float scale, float step, float root, float shrinkage,
                   const float *__restrict gradients, float *__restrict weights, float *__restrict first,
                   float *__restrict second) {
    for (int64_t i = 0; i < count; i++) {
        float g = gradients[i] * scale, w = weights[i];
        g += w * rule.coupled_decay;
        w *= shrinkage;
        float m = first[i] * rule.first_decay;
        m += g * rule.first_gain;
        first[i] = m;
        float direction = m;
        if (NESTEROV) {
            direction = g * rule.first_gain;
            direction += m * rule.first_decay;
        }
        if (ADAPTIVE) {
            float s = second[i] * rule.second_decay;
            s += g * g * rule.second_gain;
            second[i] = s;
            direction /= sqrtf(s) / root + rule.epsilon;
        }
        weights[i] = w + direction * step;
    }
}
