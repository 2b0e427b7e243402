/* The limit the bridge is compared with: a DataTransfer worker in C on librabbitmq.
 *
 * It consumes from any number of queues, reads the request's JSON once, answers Accepted, publishes the reply to
 * reply_to as the wire contract asks (persistent, mandatory, the station in a header) with a publisher confirm, and acks a
 * request only after its reply's confirm: the guarantee the bridge gives.
 *
 *   c_worker --url amqp[s]://… --prefetch N --queue NAME [--queue NAME …]
 *
 * What makes it quick: frames are taken from the read buffer until it is empty, without a system call between them; the
 * replies of such a batch leave as one burst (the socket is corked meanwhile, and Nagle is off); the batch's acks are one
 * Basic.Ack(multiple) up to the lowest request whose reply is not confirmed yet. One connection was measured quicker
 * than two.
 *
 * Every delivery makes exactly one publishing, in order, on a channel of its own. So the n-th delivery tag of the one
 * channel and the n-th confirm tag of the other are the same request, and one ring of flags maps them.
 */
#define _GNU_SOURCE
#include "amqp_open.h"

#include <amqp_framing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONSUME_CHANNEL 1
#define PUBLISH_CHANNEL 2
#define LONGEST_RUN_SECONDS 3600
#define RING (1 << 20) /* more than the largest number of deliveries in flight: queues x prefetch */

static amqp_connection_state_t connection;
static uint8_t confirmed[RING];
static uint64_t last_published; /* highest delivery tag answered */
static uint64_t last_acked;     /* every delivery up to this one is acked */
static volatile sig_atomic_t stopping;

static void stop(int signal_number) {
  (void)signal_number;
  stopping = 1;
}

/* ---- the request's JSON ------------------------------------------------------------------------------------------ */

typedef struct {
  const char *at, *end;
} scan_t;

typedef struct {
  const char *start;
  size_t length;
} text_t;

typedef struct {
  text_t vendor_id, message_id;
  long meter, energy_wh;
  bool has_meter, has_energy;
} request_t;

static void skip_space(scan_t *scan) {
  while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r'))
    scan->at++;
}

static bool take(scan_t *scan, char wanted) {
  skip_space(scan);
  if (scan->at >= scan->end || *scan->at != wanted) return false;
  scan->at++;
  return true;
}

/* A string, escapes left as they are; the quote that ends it is the first with an even number of backslashes before. */
static bool scan_string(scan_t *scan, text_t *text) {
  if (!take(scan, '"')) return false;
  text->start = scan->at;
  for (const char *from = scan->at;;) {
    const char *quote = memchr(from, '"', (size_t)(scan->end - from));
    if (!quote) return false;
    const char *before = quote;
    while (before > text->start && before[-1] == '\\') before--;
    from = quote + 1;
    if ((quote - before) % 2 == 0) {
      text->length = (size_t)(quote - text->start);
      scan->at = from;
      return true;
    }
  }
}

static bool scan_integer(scan_t *scan, long *value) {
  skip_space(scan);
  bool negative = take(scan, '-');
  const char *first = scan->at;
  long sum = 0;
  while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9') sum = sum * 10 + (*scan->at++ - '0');
  *value = negative ? -sum : sum;
  return scan->at > first;
}

static bool skip_value(scan_t *scan) {
  int depth = 0;
  do {
    skip_space(scan);
    if (scan->at >= scan->end) return false;
    text_t ignored;
    switch (*scan->at) {
      case '"':
        if (!scan_string(scan, &ignored)) return false;
        break;
      case '{':
      case '[':
        depth++;
        scan->at++;
        break;
      case '}':
      case ']':
        depth--;
        scan->at++;
        break;
      case ',':
      case ':':
        if (depth == 0) return false;
        scan->at++;
        break;
      default: {
        const char *first = scan->at;
        while (scan->at < scan->end && !strchr(",:]} \n\t\r", *scan->at)) scan->at++;
        if (scan->at == first) return false;
      }
    }
  } while (depth > 0);
  return depth == 0;
}

static bool text_is(text_t text, const char *wanted) {
  return text.length == strlen(wanted) && memcmp(text.start, wanted, text.length) == 0;
}

typedef bool member_reader(scan_t *scan, text_t name, request_t *request);

static bool scan_object(scan_t *scan, member_reader *read_member, request_t *request) {
  if (!take(scan, '{')) return false;
  if (take(scan, '}')) return true;
  do {
    text_t name;
    if (!scan_string(scan, &name) || !take(scan, ':') || !read_member(scan, name, request)) return false;
  } while (take(scan, ','));
  return take(scan, '}');
}

static bool read_sample_member(scan_t *scan, text_t name, request_t *request) {
  if (text_is(name, "meter")) return request->has_meter = scan_integer(scan, &request->meter);
  if (text_is(name, "energyWh")) return request->has_energy = scan_integer(scan, &request->energy_wh);
  return skip_value(scan);
}

static bool read_request_member(scan_t *scan, text_t name, request_t *request) {
  if (text_is(name, "vendorId")) return scan_string(scan, &request->vendor_id);
  if (text_is(name, "messageId")) return scan_string(scan, &request->message_id);
  if (text_is(name, "data")) return scan_object(scan, read_sample_member, request);
  return skip_value(scan);
}

/* The reply's body, written to `reply`; its length. */
static size_t answer(amqp_bytes_t body, char *reply, size_t room) {
  request_t request = {0};
  scan_t scan = {body.bytes, (const char *)body.bytes + body.len};
  int length;
  if (!scan_object(&scan, read_request_member, &request) || !request.vendor_id.length)
    length = snprintf(reply, room, "{\"status\":\"Rejected\"}");
  else if (!text_is(request.message_id, "MeterSample"))
    length = snprintf(reply, room, "{\"status\":\"UnknownMessageId\"}");
  else if (!request.has_meter || !request.has_energy)
    length = snprintf(reply, room, "{\"status\":\"Rejected\"}");
  else
    length = snprintf(reply, room, "{\"status\":\"Accepted\",\"data\":{\"meter\":%ld,\"totalWh\":%ld}}", request.meter,
                      request.energy_wh);
  return (size_t)length;
}

/* ---- one request: answer it, publish the reply ------------------------------------------------------------------- */

static void cork(int on) {
  setsockopt(amqp_get_sockfd(connection), IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

/* The one header that the contract copies into the reply. */
static amqp_bytes_t station_id(const amqp_basic_properties_t *request) {
  for (int index = 0; index < request->headers.num_entries; index++) {
    const amqp_table_entry_t *entry = &request->headers.entries[index];
    if (entry->key.len == 15 && memcmp(entry->key.bytes, "ocpp-station-id", 15) == 0) return entry->value.value.bytes;
  }
  die("a request without ocpp-station-id");
  return amqp_empty_bytes;
}

static void settle(uint64_t delivery_tag, const amqp_basic_properties_t *request, amqp_bytes_t body) {
  if (delivery_tag != last_published + 1) die("delivery %lu after %lu", delivery_tag, last_published);
  if (!(request->_flags & AMQP_BASIC_REPLY_TO_FLAG)) die("a request without reply_to is not part of the benchmark");
  char text[256];
  amqp_bytes_t reply = {answer(body, text, sizeof text), text};
  amqp_table_entry_t header = {
      .key = amqp_cstring_bytes("ocpp-station-id"),
      .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = station_id(request)},
  };
  amqp_basic_properties_t properties = {
      ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_TYPE_FLAG,
      .content_type = amqp_cstring_bytes("application/json"),
      .headers = {.num_entries = 1, .entries = &header},
      .delivery_mode = AMQP_DELIVERY_PERSISTENT,
      .type = amqp_cstring_bytes("DataTransferResponse"),
      .correlation_id = request->correlation_id,
  };
  int status = amqp_basic_publish(connection, PUBLISH_CHANNEL, amqp_empty_bytes, request->reply_to, 1, 0, &properties, reply);
  if (status != AMQP_STATUS_OK) die("basic.publish: %s", amqp_error_string2(status));
  last_published = delivery_tag;
}

static void note_confirm(const amqp_basic_ack_t *confirm) {
  uint64_t first = confirm->multiple ? last_acked + 1 : confirm->delivery_tag;
  for (uint64_t tag = first; tag <= confirm->delivery_tag; tag++) confirmed[tag % RING] = 1;
}

static void ack_confirmed(void) {
  uint64_t up_to = last_acked;
  while (up_to < last_published && confirmed[(up_to + 1) % RING]) confirmed[++up_to % RING] = 0;
  if (up_to == last_acked) return;
  int status = amqp_basic_ack(connection, CONSUME_CHANNEL, up_to, 1);
  if (status != AMQP_STATUS_OK) die("basic.ack: %s", amqp_error_string2(status));
  last_acked = up_to;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

/* What has arrived of a message whose header or body is not complete yet. */
typedef struct {
  uint64_t delivery_tag;
  amqp_basic_properties_t *properties;
  char *body;
  size_t body_size, body_room, received;
  const char *only_frame; /* the body itself when it came in one frame: not copied */
} incoming_t;

static incoming_t incoming;

static void complete(void) {
  amqp_bytes_t body = {incoming.body_size, (void *)(incoming.only_frame ? incoming.only_frame : incoming.body)};
  settle(incoming.delivery_tag, incoming.properties, body);
  amqp_maybe_release_buffers_on_channel(connection, CONSUME_CHANNEL);
}

static void on_delivered_frame(const amqp_frame_t *frame) {
  if (frame->frame_type == AMQP_FRAME_METHOD) {
    const amqp_method_t *method = &frame->payload.method;
    if (method->id != AMQP_BASIC_DELIVER_METHOD) die("the broker sent %s", amqp_method_name(method->id));
    incoming.delivery_tag = ((amqp_basic_deliver_t *)method->decoded)->delivery_tag;
    return;
  }
  if (frame->frame_type == AMQP_FRAME_HEADER) {
    incoming.properties = frame->payload.properties.decoded;
    incoming.body_size = frame->payload.properties.body_size;
    incoming.received = 0;
    incoming.only_frame = NULL;
  } else {
    amqp_bytes_t fragment = frame->payload.body_fragment;
    if (fragment.len == incoming.body_size) {
      incoming.only_frame = fragment.bytes;
    } else {
      if (incoming.body_room < incoming.body_size)
        incoming.body = grown(incoming.body, incoming.body_room = incoming.body_size);
      memcpy(incoming.body + incoming.received, fragment.bytes, fragment.len);
    }
    incoming.received += fragment.len;
  }
  if (incoming.received == incoming.body_size) complete();
}

/* A confirm, or a reply that comes back because its requester is gone: its confirm follows and settles the request. */
static void on_publish_frame(const amqp_frame_t *frame) {
  if (frame->frame_type == AMQP_FRAME_METHOD) {
    const amqp_method_t *method = &frame->payload.method;
    if (method->id == AMQP_BASIC_ACK_METHOD) note_confirm(method->decoded);
    else if (method->id != AMQP_BASIC_RETURN_METHOD) die("the broker sent %s", amqp_method_name(method->id));
  }
  amqp_maybe_release_buffers_on_channel(connection, PUBLISH_CHANNEL);
}

/* Every frame that has arrived, without waiting for more. */
static void read_available(void) {
  do {
    struct timeval no_wait = {0, 0};
    amqp_frame_t frame;
    int status = amqp_simple_wait_frame_noblock(connection, &frame, &no_wait);
    if (status == AMQP_STATUS_TIMEOUT) return;
    if (status != AMQP_STATUS_OK) die("read: %s", amqp_error_string2(status));
    if (frame.channel == CONSUME_CHANNEL) on_delivered_frame(&frame);
    else if (frame.channel == PUBLISH_CHANNEL) on_publish_frame(&frame);
    else if (frame.frame_type == AMQP_FRAME_METHOD) die("the broker sent %s", amqp_method_name(frame.payload.method.id));
  } while (amqp_frames_enqueued(connection) || amqp_data_in_buffer(connection));
}

static void serve(void) {
  struct pollfd socket = {amqp_get_sockfd(connection), POLLIN, 0};
  bool early = true; /* deliveries may have come while the later queues were subscribed to */
  while (!stopping) {
    if (!early && poll(&socket, 1, 1000) <= 0) continue;
    early = false;
    cork(1);
    read_available();
    ack_confirmed();
    cork(0);
  }
}

int main(int count, char **arguments) {
  const char *url = NULL;
  int prefetch = 200, queues = 0;
  const char **names = grown(NULL, sizeof *names * (size_t)count);
  for (int index = 1; index + 1 < count; index += 2) {
    const char *option = arguments[index], *value = arguments[index + 1];
    if (!strcmp(option, "--url")) url = value;
    else if (!strcmp(option, "--prefetch")) prefetch = atoi(value);
    else if (!strcmp(option, "--queue")) names[queues++] = value;
    else die("unknown option %s", option);
  }
  if (!url || !queues) die("usage: c_worker --url URL --queue NAME [--queue NAME …] [--prefetch N]");
  if ((long)prefetch * queues > RING) prefetch = RING / queues;

  prctl(PR_SET_PDEATHSIG, SIGTERM);
  alarm(LONGEST_RUN_SECONDS);
  signal(SIGPIPE, SIG_IGN);
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);

  connection = open_connection(url);
  open_channel(connection, CONSUME_CHANNEL);
  open_channel(connection, PUBLISH_CHANNEL);
  amqp_confirm_select(connection, PUBLISH_CHANNEL);
  expect(amqp_get_rpc_reply(connection), "confirm.select");
  amqp_basic_qos(connection, CONSUME_CHANNEL, 0, (uint16_t)prefetch, 0);
  expect(amqp_get_rpc_reply(connection), "basic.qos");
  for (int index = 0; index < queues; index++) {
    amqp_basic_consume(connection, CONSUME_CHANNEL, amqp_cstring_bytes(names[index]), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    expect(amqp_get_rpc_reply(connection), "basic.consume");
  }
  serve();
  amqp_destroy_connection(connection);
  return 0;
}
