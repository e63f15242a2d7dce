// Vectors of floats as wide as the processor's registers, and loops that the compiler unrolls.
//
// GCC's and Clang's vector types compile to AVX-512, AVX2, NEON or plain SSE: there are no intrinsics here. No sum is
// ever spread over the lanes of a vector (lanes are channels), and no order of additions depends on their number, so that
// the width changes the speed and not the bits.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef LANES
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#endif

#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#define UNROLLED_BY_4 _Pragma("clang loop unroll_count(4)")
#else
#define UNROLLED _Pragma("GCC unroll 32")
#define UNROLLED_BY_4 _Pragma("GCC unroll 4")
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// Channels are padded with zeros to a multiple of this many, whatever the width of the vectors.
constexpr int PADDING = 16;

constexpr int padded(int channels) { return (channels + PADDING - 1) / PADDING * PADDING; }

// Floats from one pixel to the next: an odd number of cache lines, so that the same channels of neighbouring pixels do not
// compete for the same few places of the cache.
constexpr int spaced(int channels) { return padded(channels) / PADDING % 2 ? padded(channels) : padded(channels) + PADDING; }

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }
