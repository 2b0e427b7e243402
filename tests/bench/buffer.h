/* Bytes that grow, big-endian numbers, and what load.c and fleet.c both send. */
#ifndef BENCH_BUFFER_H
#define BENCH_BUFFER_H

#include "die.h"

#include <stdbool.h>
#include <stdint.h>

#define STATION_ID "CS-%06d" /* the stations of fleet.c, by their number */

typedef struct {
  uint8_t *bytes;
  size_t length, room;
} buffer_t;

static inline uint8_t *reserve(buffer_t *buffer, size_t length) {
  if (buffer->length + length > buffer->room)
    buffer->bytes = grown(buffer->bytes, buffer->room = (buffer->length + length) * 2);
  buffer->length += length;
  return buffer->bytes + buffer->length - length;
}

static inline void put(buffer_t *buffer, uint64_t value, int bytes) {
  uint8_t *to = reserve(buffer, (size_t)bytes);
  for (int index = 0; index < bytes; index++) to[index] = (uint8_t)(value >> 8 * (bytes - 1 - index));
}

static inline uint64_t get(const uint8_t *from, int bytes) {
  uint64_t value = 0;
  for (int index = 0; index < bytes; index++) value = value << 8 | from[index];
  return value;
}

static inline void put_bytes(buffer_t *buffer, const void *bytes, size_t length) {
  if (length) memcpy(reserve(buffer, length), bytes, length);
}

static inline void put_text(buffer_t *buffer, const char *text) { put_bytes(buffer, text, strlen(text)); }

/* JSON as it is, or as the inside of a JSON string. */
static inline void put_json(buffer_t *buffer, const char *json, bool as_text) {
  for (const char *at = json; *at; at++) {
    if (as_text && *at == '"') put(buffer, '\\', 1);
    put(buffer, (uint8_t)*at, 1);
  }
}

/* The DataTransferRequest that every worker decodes, filled up to `size` bytes by its free text. `as_text`: its data is
 * a string that holds the JSON, as OCPP 1.6 has it. */
static inline void put_payload(buffer_t *buffer, const char *vendor, long size, bool as_text) {
  size_t start = buffer->length;
  put_text(buffer, "{\"vendorId\":\"");
  put_text(buffer, vendor);
  put_text(buffer, "\",\"messageId\":\"MeterSample\",\"data\":");
  if (as_text) put_text(buffer, "\"");
  put_json(buffer, "{\"meter\":17,\"energyWh\":48213907,", as_text);
  if (size >= 200)
    put_json(buffer, "\"powerW\":11040,\"voltageV\":[230.1,229.8,231.0],\"currentA\":[15.9,16.1,16.0],", as_text);
  put_json(buffer, "\"note\":\"", as_text);
  const char *end = as_text ? "\\\"}\"}" : "\"}}";
  long filling = size - (long)(buffer->length - start) - (long)strlen(end);
  if (filling < 0) die("a request has at least %ld bytes", size - filling);
  if (filling) memset(reserve(buffer, (size_t)filling), 'x', (size_t)filling);
  put_text(buffer, end);
}

static inline void put_digits(uint8_t *to, uint64_t number, int digits) {
  for (int index = 0; index < digits; index++) to[index] = (uint8_t)"0123456789abcdef"[number >> 4 * (digits - 1 - index) & 15];
}

/* What hexadecimal digits say; what is none of them gives a wrong number, and no more. */
static inline uint64_t get_digits(const uint8_t *from, int digits) {
  uint64_t number = 0;
  for (int index = 0; index < digits; index++)
    number = number << 4 | (uint64_t)((from[index] <= '9' ? from[index] - '0' : from[index] - 'a' + 10) & 15);
  return number;
}

#endif
