/* The load generator: a gateway that sends DataTransfer requests and checks every reply.
 *
 *   load run  --url amqp://… --vendor ID […] [--outstanding N | --rate R] [--seconds S] [--warmup S] [--size BYTES]
 *   load fill --url amqp://… --vendor ID […] --count N [--persistent 1] [--size BYTES]
 *   load run  --url amqp://… --vendor ID --stations N …
 *
 * run   waits until every vendor has answered once, then keeps N requests outstanding (or sends R per second whatever
 *       comes back; latency then counts from the moment a request was due) over the vendors in turn, for the warm-up and
 *       for the counted seconds.
 *       With --stations it is a CSMS that asks the stations CS-000000 to CS-… of fleet.c in turn; all must be bound.
 * fill  publishes N requests and then collects the replies until all have come.
 *
 * Standard output has one JSON object a line. run: {"event":"ready"} when all vendors have answered; it then reads one
 * line of process numbers from standard input, whose processor time it takes at the beginning and at the end of the
 * count, itself and so at the right moments. fill: {"event":"sent"}. Last comes the result. It is exactly-once
 * accounting: a reply whose correlation_id was never sent is foreign, one that comes again a duplicate, one that never
 * comes missing.
 *
 * It must cost less than what it measures. So librabbitmq only logs in; after that the three frames of a request are a
 * template per vendor, or station, in which two ids are overwritten, a batch leaves in one write, and replies are read by hand.
 */
#define _GNU_SOURCE
#include "amqp_open.h"
#include "buffer.h"
#include "measures.h"

#include <amqp_framing.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHANNEL 1
#define FRAME_END 0xCE
#define ID_LENGTH 25        /* "<run, 8 hex digits>-<number, 16 hex digits>": correlation_id and message_id */
#define WRITE_AHEAD 4194304 /* bytes that may wait for the socket before no more requests are made */
#define READ_ROOM (1 << 20) /* holds the largest frame many times over */
#define LONGEST_RUN_SECONDS 3600
#define PROBE_SECONDS 60 /* how long a worker may take to answer its first requests */
#define GRACE_SECONDS 5  /* how long to wait for the last replies */

/* ---- options ----------------------------------------------------------------------------------------------------- */

static const char *url, **vendors;
static int vendor_count, station_count, persistent;
static long outstanding_wanted = 200, size = 250, deadline_ms, count;
static double seconds = 3, warmup = 0.5, rate;

/* ---- what was sent and what came back ---------------------------------------------------------------------------- */

enum { OUTSTANDING = 1, ANSWERED = 2 };

static uint32_t run_id;
static account_t account;
static latencies_t latencies;
static bool counting;
static uint8_t *states;     /* by number of the request */
static uint64_t *due_times; /* by number: when it was sent, or was to be sent */
static size_t ledger_room;

static void note_sent(uint64_t due) {
  if (account.sent == ledger_room) {
    ledger_room = ledger_room ? ledger_room * 2 : 1 << 16;
    states = grown(states, ledger_room * sizeof *states);
    due_times = grown(due_times, ledger_room * sizeof *due_times);
  }
  states[account.sent] = OUTSTANDING;
  due_times[account.sent] = due;
  account.sent++;
}

/* ---- AMQP's fields ---------------------------------------------------------------------------------------------- */

static void put_short(buffer_t *buffer, const char *text) {
  put(buffer, strlen(text), 1);
  put_bytes(buffer, text, strlen(text));
}

static void put_text_header(buffer_t *buffer, const char *name, const char *text) {
  put_short(buffer, name);
  put(buffer, 'S', 1);
  put(buffer, strlen(text), 4);
  put_bytes(buffer, text, strlen(text));
}

/* A frame's header; its length is filled in by end_frame. */
static size_t begin_frame(buffer_t *buffer, int type) {
  put(buffer, (uint64_t)type, 1);
  put(buffer, CHANNEL, 2);
  put(buffer, 0, 4);
  return buffer->length;
}

static void end_frame(buffer_t *buffer, size_t payload) {
  uint64_t length = buffer->length - payload;
  for (int index = 0; index < 4; index++) buffer->bytes[payload - 4 + (size_t)index] = (uint8_t)(length >> 8 * (3 - index));
  put(buffer, FRAME_END, 1);
}

/* ---- the requests ------------------------------------------------------------------------------------------------ */

typedef struct {
  buffer_t frames;
  size_t correlation_id, message_id, deadline; /* offsets of what differs between two requests; 0: absent */
} template_t;

static template_t *templates;
static int template_count;

/* Where a request goes, and whose it is. */
typedef struct {
  const char *exchange, *key, *vendor, *station;
} address_t;

static void make_header(template_t *template, const char *station, const char *reply_to) {
  buffer_t *frames = &template->frames;
  const char blank[ID_LENGTH + 1] = "0000000000000000000000000";
  size_t header = begin_frame(frames, AMQP_FRAME_HEADER);
  put(frames, AMQP_BASIC_CLASS, 2);
  put(frames, 0, 2);
  put(frames, (uint64_t)size, 8);
  put(frames,
      AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
          AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TYPE_FLAG |
          (deadline_ms ? AMQP_BASIC_EXPIRATION_FLAG : 0),
      2);
  put_short(frames, "application/json");
  buffer_t headers = {0};
  put_text_header(&headers, "ocpp-station-id", station);
  if (!station_count) put_text_header(&headers, "ocpp-version", "ocpp2.0.1");
  size_t deadline = 0;
  if (deadline_ms) {
    put_short(&headers, "ocpp-deadline");
    put(&headers, 'l', 1);
    deadline = headers.length;
    put(&headers, 0, 8);
  }
  put(frames, headers.length, 4);
  if (deadline) template->deadline = frames->length + deadline;
  put_bytes(frames, headers.bytes, headers.length);
  free(headers.bytes);
  put(frames, persistent ? 2 : 1, 1);
  template->correlation_id = frames->length + 1;
  put_short(frames, blank);
  put_short(frames, reply_to);
  if (deadline_ms) {
    char expiration[24];
    snprintf(expiration, sizeof expiration, "%ld", deadline_ms);
    put_short(frames, expiration);
  }
  template->message_id = frames->length + 1;
  put_short(frames, blank);
  put_short(frames, "DataTransfer");
  end_frame(frames, header);
}

static void make_template(template_t *template, address_t address, const char *reply_to, size_t frame_max) {
  buffer_t *frames = &template->frames;
  size_t method = begin_frame(frames, AMQP_FRAME_METHOD);
  put(frames, AMQP_BASIC_PUBLISH_METHOD, 4);
  put(frames, 0, 2);
  put_short(frames, address.exchange);
  put_short(frames, address.key);
  put(frames, 0, 1);
  end_frame(frames, method);

  make_header(template, address.station, reply_to);

  buffer_t payload = {0};
  put_payload(&payload, address.vendor, size, false);
  for (size_t from = 0; from < payload.length;) {
    size_t part = payload.length - from < frame_max - 8 ? payload.length - from : frame_max - 8;
    size_t body = begin_frame(frames, AMQP_FRAME_BODY);
    put_bytes(frames, payload.bytes + from, part);
    end_frame(frames, body);
    from += part;
  }
  free(payload.bytes);
}

static void put_id(uint8_t *to, uint64_t number) {
  put_digits(to, run_id, 8);
  to[8] = '-';
  put_digits(to + 9, number, 16);
}

/* The number of the request with this id; false when it is none of this run's. */
static bool get_id(const uint8_t *id, size_t length, uint64_t *number) {
  uint8_t expected[ID_LENGTH];
  if (length != ID_LENGTH) return false;
  *number = get_digits(id + 9, 16);
  put_id(expected, *number);
  return memcmp(id, expected, ID_LENGTH) == 0;
}

static int sock;
static buffer_t out;
static size_t out_written;

static void make_request(uint64_t due) {
  const template_t *template = &templates[account.sent % (uint64_t)template_count];
  uint8_t *frames = reserve(&out, template->frames.length);
  memcpy(frames, template->frames.bytes, template->frames.length);
  put_id(frames + template->correlation_id, account.sent);
  put_id(frames + template->message_id, account.sent);
  if (template->deadline) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    uint64_t deadline = (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000 + (uint64_t)deadline_ms;
    for (int index = 0; index < 8; index++) frames[template->deadline + (size_t)index] = (uint8_t)(deadline >> 8 * (7 - index));
  }
  note_sent(due);
}

static void flush_requests(void) {
  while (out_written < out.length) {
    ssize_t written = send(sock, out.bytes + out_written, out.length - out_written, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (written < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (written < 0) die("send: %s", strerror(errno));
    out_written += (size_t)written;
  }
  out.length = out_written = 0;
}

/* ---- the replies ------------------------------------------------------------------------------------------------- */

static uint8_t in[READ_ROOM];
static size_t in_length;
static struct {
  uint64_t number, size;
  bool known;
} reply;

static void on_reply(const uint8_t *body, size_t length) {
  if (!reply.known || reply.number >= account.sent) {
    account.foreign++;
    return;
  }
  if (states[reply.number] == ANSWERED) {
    account.duplicate++;
    return;
  }
  states[reply.number] = ANSWERED;
  account.answered++;
  if (counting) note_latency(&latencies, now() - due_times[reply.number]);
  static const char accepted[] = "\"status\":\"Accepted\"";
  if (!memmem(body, length, accepted, sizeof accepted - 1)) account.refused++;
}

static void on_reply_header(const uint8_t *payload) {
  uint64_t flags = get(payload + 12, 2);
  const uint8_t *at = payload + 14;
  reply.size = get(payload + 4, 8);
  reply.known = false;
  if (flags & AMQP_BASIC_CONTENT_TYPE_FLAG) at += 1 + *at;
  if (flags & AMQP_BASIC_CONTENT_ENCODING_FLAG) at += 1 + *at;
  if (flags & AMQP_BASIC_HEADERS_FLAG) at += 4 + get(at, 4);
  if (flags & AMQP_BASIC_DELIVERY_MODE_FLAG) at++;
  if (flags & AMQP_BASIC_PRIORITY_FLAG) at++;
  if (flags & AMQP_BASIC_CORRELATION_ID_FLAG) reply.known = get_id(at + 1, *at, &reply.number);
  if (reply.size == 0) on_reply(payload, 0);
}

static void on_frame(int type, const uint8_t *payload, size_t length) {
  if (type == AMQP_FRAME_HEADER) {
    on_reply_header(payload);
  } else if (type == AMQP_FRAME_BODY) {
    if (length != reply.size) die("a reply of %lu bytes is more than one frame", reply.size);
    on_reply(payload, length);
  } else if (type == AMQP_FRAME_METHOD) {
    uint64_t method = get(payload, 4);
    if (method == AMQP_CHANNEL_CLOSE_METHOD || method == AMQP_CONNECTION_CLOSE_METHOD)
      die("the broker closed: %lu %.*s", get(payload + 4, 2), payload[6], payload + 7);
    if (method != AMQP_BASIC_DELIVER_METHOD) die("the broker sent %s", amqp_method_name((uint32_t)method));
  }
}

static void read_replies(void) {
  ssize_t received = recv(sock, in + in_length, sizeof in - in_length, MSG_DONTWAIT);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (received <= 0) die("the broker closed the connection");
  in_length += (size_t)received;
  size_t at = 0;
  while (in_length - at >= 8) {
    size_t length = get(in + at + 3, 4);
    if (length > FRAME_MAX || in_length - at < length + 8) break;
    if (in[at + 7 + length] != FRAME_END) die("a frame without its end");
    on_frame(in[at], in + at + 7, length);
    at += length + 8;
  }
  memmove(in, in + at, in_length - at);
  in_length -= at;
}

/* ---- the phases -------------------------------------------------------------------------------------------------- */

/* One turn: write what is due, wait for the socket (no longer than `until`), read what came. */
static void turn(uint64_t until) {
  flush_requests();
  uint64_t time = now();
  uint64_t wait = until > time ? until - time : 0;
  if (wait > SECOND / 20) wait = SECOND / 20;
  struct timespec timeout = {0, (long)wait};
  struct pollfd ready = {sock, (short)(POLLIN | (out.length ? POLLOUT : 0)), 0};
  if (ppoll(&ready, 1, &timeout, NULL) > 0 && ready.revents & (POLLIN | POLLHUP | POLLERR)) read_replies();
}

static void keep_outstanding(uint64_t until) {
  for (uint64_t time = now(); time < until; time = now()) {
    while (missing(&account) < (uint64_t)outstanding_wanted && out.length - out_written < WRITE_AHEAD) make_request(time);
    turn(until);
  }
}

static void keep_rate(uint64_t until) {
  static uint64_t first_due, first_number;
  if (!first_due) first_due = now(), first_number = account.sent;
  for (uint64_t time = now(); time < until; time = now()) {
    uint64_t due;
    while ((due = first_due + (uint64_t)((double)(account.sent - first_number) / rate * 1e9)) <= time) make_request(due);
    turn(due < until ? due : until);
  }
}

static void await_replies(double limit) {
  uint64_t until = now() + nanoseconds(limit);
  while (missing(&account) && now() < until) turn(until);
}

static void probe(void) {
  for (int index = 0; index < (station_count ? 1 : vendor_count); index++) {
    make_request(now());
    if (index == 0) await_replies(PROBE_SECONDS); /* one first: the rest then find a worker that is up */
  }
  await_replies(PROBE_SECONDS);
  if (missing(&account)) die("no reply to %lu of the first %lu requests", missing(&account), account.sent);
  event("ready");
  read_watched();
}

static void run(void) {
  probe();
  void (*send_until)(uint64_t) = rate > 0 ? keep_rate : keep_outstanding;
  send_until(now() + nanoseconds(warmup));
  uint64_t answered_before = account.answered, start = now();
  processor_time_t before = processor_time();
  counting = true;
  send_until(start + nanoseconds(seconds));
  counting = false;
  double elapsed = (double)(now() - start) / (double)SECOND;
  processor_time_t after = processor_time();
  uint64_t counted = account.answered - answered_before;
  await_replies(GRACE_SECONDS);
  printf("{");
  print_count(counted, elapsed, &latencies);
  printf(",");
  print_account(&account);
  printf(",");
  print_processor_time(&before, &after);
  puts("}");
}

static void fill(void) {
  while (account.sent < (uint64_t)count || out.length) {
    while (account.sent < (uint64_t)count && out.length - out_written < WRITE_AHEAD) make_request(now());
    turn(now() + SECOND);
  }
  event("sent");
  uint64_t already = account.answered, first_reply = 0;
  while (missing(&account)) {
    turn(now() + SECOND / 20);
    if (!first_reply && account.answered > already) first_reply = now();
  }
  double elapsed = first_reply ? (double)(now() - first_reply) / (double)SECOND : 0;
  printf("{\"round_trips\":%lu,\"seconds\":%.6f,", account.answered, elapsed);
  print_account(&account);
  puts("}");
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

static void read_options(int argument_count, char **arguments) {
  vendors = grown(NULL, sizeof *vendors * (size_t)argument_count);
  for (int index = 2; index + 1 < argument_count; index += 2) {
    const char *option = arguments[index], *value = arguments[index + 1];
    if (!strcmp(option, "--url")) url = value;
    else if (!strcmp(option, "--vendor")) vendors[vendor_count++] = value;
    else if (!strcmp(option, "--stations")) station_count = atoi(value);
    else if (!strcmp(option, "--outstanding")) outstanding_wanted = atol(value);
    else if (!strcmp(option, "--rate")) rate = atof(value);
    else if (!strcmp(option, "--seconds")) seconds = atof(value);
    else if (!strcmp(option, "--warmup")) warmup = atof(value);
    else if (!strcmp(option, "--count")) count = atol(value);
    else if (!strcmp(option, "--size")) size = atol(value);
    else if (!strcmp(option, "--deadline-ms")) deadline_ms = atol(value);
    else if (!strcmp(option, "--persistent")) persistent = atoi(value);
    else die("unknown option %s", option);
  }
  if (!url || !vendor_count) die("usage: load run|fill --url URL --vendor ID [--vendor ID …] …");
}

static address_t address_of(int index) {
  if (!station_count) return (address_t){"datatransfer", vendors[index], vendors[index], "CS-BERLIN-0017"};
  static char station[32];
  snprintf(station, sizeof station, STATION_ID, index);
  return (address_t){"datatransfer.stations", station, vendors[0], station};
}

/* Logs in, subscribes to an exclusive reply queue and makes the templates; from here on the socket is ours. */
static void connect_to_broker(void) {
  amqp_connection_state_t connection = open_connection(url);
  open_channel(connection, CHANNEL);
  amqp_queue_declare_ok_t *queue =
      amqp_queue_declare(connection, CHANNEL, amqp_empty_bytes, 0, 0, 1, 1, amqp_empty_table);
  expect(amqp_get_rpc_reply(connection), "queue.declare");
  amqp_bytes_t name = amqp_bytes_malloc_dup(queue->queue);
  amqp_basic_consume(connection, CHANNEL, name, amqp_empty_bytes, 0, 1, 1, amqp_empty_table);
  expect(amqp_get_rpc_reply(connection), "basic.consume");

  char reply_to[256];
  snprintf(reply_to, sizeof reply_to, "%.*s", (int)name.len, (char *)name.bytes);
  template_count = station_count ? station_count : vendor_count;
  templates = cleared((size_t)template_count, sizeof *templates);
  for (int index = 0; index < template_count; index++)
    make_template(&templates[index], address_of(index), reply_to, (size_t)amqp_get_frame_max(connection));
  sock = amqp_get_sockfd(connection);
}

int main(int argument_count, char **arguments) {
  read_options(argument_count, arguments);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  alarm(LONGEST_RUN_SECONDS);
  if (getrandom(&run_id, sizeof run_id, 0) != sizeof run_id) die("no random number");
  connect_to_broker();
  if (!strcmp(arguments[1], "run")) run();
  else if (!strcmp(arguments[1], "fill")) fill();
  else die("run or fill, not %s", arguments[1]);
  return 0;
}
