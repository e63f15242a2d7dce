// The numbers of `randomness.StepDraws.uniform`: a counter, hashed. The same integers, bit by bit.
#pragma once

#include "vectors.h"

// Chris Wellons' "lowbias32".
INLINE uint32_t mix(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    return x ^ x >> 16;
}

static void draw(uint32_t low, uint32_t high, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t mixed = mix(mix((uint32_t)i * 0x9E3779B9u + low) ^ high);
        out[i] = (float)(int32_t)(mixed >> 8) * 0x1p-24f;
    }
}
