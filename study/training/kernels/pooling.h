// Max-pooling, bias and activation function of two rows of a convolution's sums.
#pragma once

#include <math.h>

#include "vectors.h"

enum Activation { RELU, LEAKY_RELU, SIGMOID, TANH, GELU };

constexpr int8_t SHUT = 4;  // the choice of a unit through which no gradient flows

// A function's value at z, and its slope there.
INLINE float activate(int function, float parameter, float z, float *slope) {
    switch (function) {
    case LEAKY_RELU:
        *slope = z > 0 ? 1 : parameter;
        return z > 0 ? z : z * parameter;
    case SIGMOID: {
        float y = (float)(1 / (1 + exp(-(double)z)));
        *slope = y * (1 - y);
        return y;
    }
    case TANH: {
        float y = (float)tanh((double)z);
        *slope = 1 - y * y;
        return y;
    }
    case GELU: {
        double below = 0.5 * erfc(-(double)z * 0.70710678118654752440);
        *slope = (float)(below + z * 0.39894228040143267794 * exp(-0.5 * (double)z * z));
        return (float)(z * below);
    }
    default:  // ReLU; not a number stays what it is
        *slope = z <= 0 ? 0 : 1;
        return z <= 0 ? 0 : z;
    }
}

// One row of pooled units from two rows of sums.
//
// upper, lower: [2 * units][width], of which `wide` channels; out: [units][stride]; choices: [units][channels], which of
// the four was the largest (the first of equals), SHUT behind ReLU where it is not above zero; slopes: [units][channels],
// where the function is another one. Returns how many units are open.
static int pool(const float *upper, const float *lower, size_t width, int wide, int units, const float *bias,
                int function, float parameter, size_t stride, float *out, size_t channels, int8_t *choices,
                float *slopes) {
    mask open = {};
    for (int unit = 0; unit < units; unit++) {
        const float *four[] = {upper + 2 * unit * width, upper + (2 * unit + 1) * width, lower + 2 * unit * width,
                               lower + (2 * unit + 1) * width};
        if (function == GELU) {  // not monotone: its largest value need not be that of the largest sum
            for (int c = 0; c < wide; c++) {
                float best = 0, slope = 0;
                int8_t which = 0;
                for (int8_t i = 0; i < 4; i++) {
                    float s, y = activate(function, parameter, four[i][c] + bias[c], &s);
                    if (i == 0 || y > best || y != y) best = y, slope = s, which = i;
                }
                out[unit * stride + c] = best;
                choices[unit * channels + c] = which;
                slopes[unit * channels + c] = slope;
            }
            continue;
        }
        for (int c = 0; c < wide; c += LANES) {
            vec best = load(four[0] + c);
            mask which = {};
            UNROLLED for (int i = 1; i < 4; i++) {
                vec other = load(four[i] + c);
                mask larger = (mask)(other > best) | (mask)(other != other);
                best = larger ? other : best;
                which = larger ? (mask){} + i : which;
            }
            vec z = best + load(bias + c);
            if (function == RELU) {
                mask shut = (mask)(z <= 0);
                z = shut ? (vec){} : z;
                which = shut ? (mask){} + SHUT : which;
                open += shut + 1;
                store(out + unit * stride + c, z);
            } else {
                for (int lane = 0; lane < LANES; lane++)
                    out[unit * stride + c + lane] =
                        activate(function, parameter, z[lane], slopes + unit * channels + c + lane);
            }
            typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
            *(bytes *)(choices + unit * channels + c) = __builtin_convertvector(which, bytes);
        }
    }
    int sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += open[lane];
    return sum;
}
