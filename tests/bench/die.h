/* Ending with a message, and memory without which nothing goes on. */
#ifndef BENCH_DIE_H
#define BENCH_DIE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(2);
}

static inline char *copy_text(const char *text) {
  char *copy = strdup(text);
  if (!copy) die("out of memory");
  return copy;
}

static inline void *grown(void *block, size_t bytes) {
  void *larger = realloc(block, bytes);
  if (!larger) die("out of memory");
  return larger;
}

/* Room for `count` things of `bytes` each, all zero. */
static inline void *cleared(size_t count, size_t bytes) {
  void *block = calloc(count ? count : 1, bytes);
  if (!block) die("out of memory");
  return block;
}

#endif
