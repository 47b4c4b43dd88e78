/*
 * sanitized.h: what the sanitizers make slow. They look for other things than wrong answers, and
 * find them in a part of what is tried without them.
 */
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#define CRASH_STEP 5U
#elif __has_feature(thread_sanitizer)
#define SANITIZED 1
#define CRASH_STEP 25U /* a simulation has one thread */
#endif
#endif

/* One in so many crash points is tried. */
#ifndef CRASH_STEP
#define CRASH_STEP 1U
#endif
