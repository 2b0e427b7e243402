/* What is measured: processor time of this and other processes, latencies, and what was sent and came back. */
#ifndef BENCH_MEASURES_H
#define BENCH_MEASURES_H

#include "die.h"

#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull

static inline uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static inline uint64_t nanoseconds(double seconds) { return (uint64_t)(seconds * (double)SECOND); }

static inline void event(const char *name) {
  printf("{\"event\":\"%s\"}\n", name);
  fflush(stdout);
}

/* ---- processor time ---------------------------------------------------------------------------------------------- */

#define MOST_WATCHED 64

static pid_t watched[MOST_WATCHED];
static int watched_count;

typedef struct {
  double watched[MOST_WATCHED], own, busy; /* seconds; busy: all cores of the machine together */
} processor_time_t;

static inline double clock_seconds(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) die("a watched process has ended");
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The first line of /proc/stat: user nice system idle iowait irq softirq steal, in ticks. */
static inline double busy_seconds(void) {
  unsigned long long user, nice, system, idle, waiting, irq, softirq, steal;
  FILE *file = fopen("/proc/stat", "r");
  if (!file || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &waiting, &irq,
                      &softirq, &steal) != 8)
    die("/proc/stat cannot be read");
  fclose(file);
  return (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
}

static inline processor_time_t processor_time(void) {
  processor_time_t times = {.own = clock_seconds(CLOCK_PROCESS_CPUTIME_ID), .busy = busy_seconds()};
  for (int index = 0; index < watched_count; index++) {
    clockid_t clock;
    if (clock_getcpuclockid(watched[index], &clock) != 0) die("process %d has ended", (int)watched[index]);
    times.watched[index] = clock_seconds(clock);
  }
  return times;
}

/* One line of process numbers from standard input. */
static inline void read_watched(void) {
  char line[1024], *at = line;
  if (!fgets(line, sizeof line, stdin)) die("no process numbers on standard input");
  for (char *end; watched_count < MOST_WATCHED; at = end) {
    long number = strtol(at, &end, 10);
    if (end == at) return;
    watched[watched_count++] = (pid_t)number;
  }
}

/* ---- latencies --------------------------------------------------------------------------------------------------- */

/* In nanoseconds: 256 buckets to each doubling, so a percentile is within 0.4 %. */
#define SUB_BITS 8
typedef struct {
  uint64_t buckets[64 << SUB_BITS], measured, slowest;
} latencies_t;

static inline void note_latency(latencies_t *latencies, uint64_t latency) {
  unsigned magnitude = 63 - (unsigned)__builtin_clzll(latency | (1 << SUB_BITS));
  latencies->buckets[(magnitude << SUB_BITS) + ((latency >> (magnitude - SUB_BITS)) & ((1 << SUB_BITS) - 1))]++;
  latencies->measured++;
  if (latency > latencies->slowest) latencies->slowest = latency;
}

static inline double percentile_us(const latencies_t *latencies, double share) {
  uint64_t wanted = (uint64_t)((double)latencies->measured * share), seen = 0;
  for (uint64_t index = 0; index < sizeof latencies->buckets / sizeof *latencies->buckets; index++) {
    seen += latencies->buckets[index];
    if (seen > wanted) {
      unsigned magnitude = (unsigned)(index >> SUB_BITS);
      uint64_t low = (1ull << magnitude) + ((index & ((1 << SUB_BITS) - 1)) << (magnitude - SUB_BITS));
      return (double)low / 1000;
    }
  }
  return (double)latencies->slowest / 1000;
}

/* ---- the result -------------------------------------------------------------------------------------------------- */

/* Exactly-once accounting. */
typedef struct {
  uint64_t sent, answered;
  uint64_t given_up; /* requests whose answer may come or not */
  uint64_t duplicate, foreign, refused;
} account_t;

static inline uint64_t missing(const account_t *account) {
  return account->sent - account->answered - account->given_up;
}

static inline void print_account(const account_t *account) {
  printf("\"sent\":%lu,\"missing\":%lu,\"duplicate\":%lu,\"foreign\":%lu,\"refused\":%lu", account->sent, missing(account),
         account->duplicate, account->foreign, account->refused);
}

static inline void print_count(uint64_t round_trips, double seconds, const latencies_t *latencies) {
  printf("\"round_trips\":%lu,\"seconds\":%.6f,\"rate\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f", round_trips,
         seconds, (double)round_trips / seconds, percentile_us(latencies, 0.5), percentile_us(latencies, 0.99),
         (double)latencies->slowest / 1000);
}

static inline void print_processor_time(const processor_time_t *before, const processor_time_t *after) {
  printf("\"load_cpu_s\":%.6f,\"busy_cpu_s\":%.3f,\"watched_cpu_s\":[", after->own - before->own,
         after->busy - before->busy);
  for (int index = 0; index < watched_count; index++)
    printf("%s%.6f", index ? "," : "", after->watched[index] - before->watched[index]);
  printf("]");
}

#endif
