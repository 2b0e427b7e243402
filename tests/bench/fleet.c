/* The stations that a gateway is measured with: many WebSockets, and what stations say on them (OCPP-J 1.6).
 *
 *   fleet ask    --port P --stations N [--outstanding K | --rate R] [--seconds S] [--warmup S] [--size BYTES]
 *   fleet answer --port P --stations N [--seconds S]
 *   fleet idle   --port P --stations N [--seconds S]
 *   fleet storm  --port P --stations N --moving M --within S --rate R [--seconds S] [--warmup S] [--size BYTES]
 *
 * ask     keeps K CALLs of DataTransfer outstanding (or sends R per second whatever comes back; latency then counts from
 *         the moment a CALL was due) over the stations in turn, one of each station at a time, for the warm-up and for the
 *         counted seconds.
 * answer  answers the CALLs that come, until a line comes on standard input, or the seconds are over.
 * idle    is connected, and answers pings, for as long.
 * storm   has all but M stations send R CALLs per second. After the counted seconds M lose their connections at once and
 *         come back, evenly within S seconds, each with a CALL. Counted are the latencies of the others, before and during
 *         the storm, and when the last one was answered.
 *
 * Standard output has one JSON object a line: {"event":"connected"} when all stations are connected; it then reads one
 * line of process numbers from standard input, as load.c does. Last comes the result, with load.c's accounting.
 * Each address 127.0.0.x has at most 5,000 stations, so that ports suffice.
 *
 * It must cost less than what it measures. So a CALL is a frame that is masked already, in which the message id is
 * overwritten: its mask is the same for all, which a real client's may not be (RFC 6455 §5.3).
 */
#define _GNU_SOURCE
#include "buffer.h"
#include "measures.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define MOST_STATIONS 1000000
#define PER_ADDRESS 5000
#define AT_ONCE 64 /* handshakes at a time, while the stations connect at first */
#define OTHER_FILES 16
#define READ_ROOM (1 << 20)
#define EVENTS 512
#define ID_DIGITS 16
#define LONGEST_RUN_SECONDS 3600
#define CONNECT_SECONDS 300 /* for all stations; a gateway may still be starting */
#define PROBE_SECONDS 60    /* how long a worker may take to answer the first CALL */
#define AGAIN_SECONDS 1     /* after which a station that was not let in comes again */
#define GRACE_SECONDS 5     /* how long to wait for the last answers */
#define STORM_SECONDS 120   /* how long to wait for the last one that comes back */

/* ---- options ----------------------------------------------------------------------------------------------------- */

static int port, station_count, moving_count;
static long outstanding_wanted = 200, size = 250;
static double seconds = 3, warmup = 0.5, rate, within = 10;
static const char *vendor = "com.acme";

/* ---- the stations ------------------------------------------------------------------------------------------------ */

enum { CLOSED, CONNECTING, ASKED, OPEN };
enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

typedef struct {
  int socket;
  uint8_t phase;
  bool idle;               /* it is in the line of those that may send a CALL */
  uint64_t call, answered; /* numbers of the CALL that is outstanding, and of the last one before; 0: none */
  uint64_t due;            /* when that CALL was due; while closed: when it comes */
  uint8_t *rest;           /* what was read of a frame that is not whole yet */
  size_t rest_length;
} station_t;

static station_t *stations;
static int epoll, handshakes, open_count;
static uint64_t failed, lost, pings, calls_answered; /* lost: connections that the gateway ended */

/* Stations in line, first in, first out. Each is in it once at most. */
typedef struct {
  int *items;
  size_t head, length;
} line_t;

static line_t idle_line, arrivals, returns; /* returns: those that were not let in */

static void append(line_t *line, int index) {
  line->items[(line->head + line->length++) % (size_t)station_count] = index;
}

static int take_first(line_t *line) {
  int index = line->items[line->head];
  line->head = (line->head + 1) % (size_t)station_count;
  line->length--;
  return index;
}

static int number_of(const station_t *station) { return (int)(station - stations); }

static bool is_moving(const station_t *station) { return number_of(station) < moving_count; }

static void watch(station_t *station, int operation, uint32_t events) {
  struct epoll_event wanted = {.events = events, .data.u32 = (uint32_t)number_of(station)};
  if (epoll_ctl(epoll, operation, station->socket, &wanted) != 0) die("epoll: %s", strerror(errno));
}

static void become_idle(station_t *station) {
  if (station->idle) return;
  station->idle = true;
  append(&idle_line, number_of(station));
}

/* ---- CALLs and their answers ------------------------------------------------------------------------------------- */

static account_t account;
static latencies_t *counted; /* where latencies are noted now; NULL: nowhere */
static uint64_t served, last_served;
static bool storming;

static struct {
  buffer_t frame;
  size_t id; /* where the message id stands in it */
} call;

static const uint8_t mask[4] = {0x3d, 0x9a, 0x51, 0xc7};

static void put_frame(buffer_t *frame, int opcode, const void *payload, size_t length) {
  put(frame, 0x80 | (uint64_t)opcode, 1);
  if (length > 65535) die("a frame of %zu bytes", length);
  if (length > 125) put(frame, 0x80 | 126, 1), put(frame, length, 2);
  else put(frame, 0x80 | length, 1);
  put_bytes(frame, mask, sizeof mask);
  uint8_t *to = reserve(frame, length);
  for (size_t index = 0; index < length; index++) to[index] = ((const uint8_t *)payload)[index] ^ mask[index & 3];
}

static void make_call(void) {
  buffer_t payload = {0};
  put_text(&payload, "[2,\"0000000000000000\",\"DataTransfer\",");
  put_payload(&payload, vendor, size, true);
  put_text(&payload, "]");
  put_frame(&call.frame, TEXT, payload.bytes, payload.length);
  call.id = call.frame.length - payload.length + 4;
  free(payload.bytes);
}

/* Ends a connection. Its CALL is missing, unless it was we who ended it. */
static void disconnect(station_t *station, bool by_us) {
  if (station->phase == OPEN) open_count--;
  else handshakes--;
  if (station->call && by_us) account.given_up++;
  station->call = 0;
  close(station->socket);
  station->phase = CLOSED;
  station->rest_length = 0;
}

/* The gateway has not let a station in, or has ended its connection: it comes again. */
static void come_again(station_t *station) {
  if (station->phase == OPEN) lost++;
  else failed++;
  disconnect(station, false);
  station->due = now() + nanoseconds(AGAIN_SECONDS);
  append(&returns, number_of(station));
}

/* False: the connection is no more. A gateway that does not read a few hundred bytes has lost the station. */
static bool send_bytes(station_t *station, const void *bytes, size_t length) {
  if (send(station->socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)length) return true;
  come_again(station);
  return false;
}

static void send_frame(station_t *station, int opcode, const void *payload, size_t length) {
  static buffer_t frame;
  frame.length = 0;
  put_frame(&frame, opcode, payload, length);
  send_bytes(station, frame.bytes, frame.length);
}

static void ask(station_t *station, uint64_t due) {
  uint8_t digits[ID_DIGITS];
  put_digits(digits, ++account.sent, ID_DIGITS);
  for (size_t index = 0; index < ID_DIGITS; index++) call.frame.bytes[call.id + index] = digits[index] ^ mask[(index + 4) & 3];
  station->call = account.sent;
  station->due = due;
  send_bytes(station, call.frame.bytes, call.frame.length);
}

static void on_result(station_t *station, const uint8_t *text, size_t length) {
  uint64_t id = length > 4 + ID_DIGITS ? get_digits(text + 4, ID_DIGITS) : 0;
  if (!id || id != station->call) {
    if (id && id == station->answered) account.duplicate++;
    else account.foreign++;
    return;
  }
  bool first = !station->answered;
  station->answered = id;
  station->call = 0;
  account.answered++;
  static const char accepted[] = "\"status\":\"Accepted\"";
  if (text[1] != '3' || !memmem(text, length, accepted, sizeof accepted - 1)) account.refused++;
  if (is_moving(station)) {
    if (first) last_served = now(), served++;
    return;
  }
  if (counted) note_latency(counted, now() - station->due);
  become_idle(station);
}

/* A CALL of the CSMS: [2,"id",… */
static void on_call(station_t *station, const uint8_t *text, size_t length) {
  static const char answer[] = "\",{\"status\":\"Accepted\",\"data\":\"{\\\"meter\\\":17,\\\"totalWh\\\":48213907}\"}]";
  const uint8_t *id = text + 4, *end = memchr(id, '"', length - 4);
  if (!end) die("a CALL without an id");
  static buffer_t message;
  message.length = 0;
  put_text(&message, "[3,\"");
  put_bytes(&message, id, (size_t)(end - id));
  put_text(&message, answer);
  calls_answered++;
  send_frame(station, TEXT, message.bytes, message.length);
}

static void on_message(station_t *station, const uint8_t *text, size_t length) {
  if (length < 5 || memcmp(text, "[2,\"", 4)) on_result(station, text, length);
  else on_call(station, text, length);
}

/* ---- WebSocket --------------------------------------------------------------------------------------------------- */

static void on_frame(station_t *station, int opcode, const uint8_t *payload, size_t length) {
  if (opcode == TEXT) on_message(station, payload, length);
  else if (opcode == PING) pings++, send_frame(station, PONG, payload, length);
  else if (opcode == CLOSE) come_again(station);
  else if (opcode != PONG) die("a frame with the opcode %d", opcode);
}

/* The bytes of the first frame, which is handled; 0: it is not whole. */
static size_t take_frame(station_t *station, const uint8_t *at, size_t length) {
  if (length < 2) return 0;
  if (!(at[0] & 0x80) || at[1] & 0x80) die("a frame in parts, or masked");
  size_t header = at[1] == 127 ? 10 : at[1] == 126 ? 4 : 2;
  if (length < header) return 0;
  uint64_t payload = header == 2 ? at[1] : get(at + 2, (int)header - 2);
  if (payload > READ_ROOM / 2) die("a frame of %lu bytes", payload);
  if (length < header + payload) return 0;
  on_frame(station, at[0] & 15, at + header, payload);
  return header + payload;
}

/* The bytes of the response to the handshake; 0: it is not whole. */
static size_t take_response(station_t *station, const uint8_t *at, size_t length) {
  const uint8_t *end = memmem(at, length, "\r\n\r\n", 4);
  if (!end) return 0;
  if (length < 12 || memcmp(at, "HTTP/1.1 101", 12)) {
    come_again(station);
    return length;
  }
  handshakes--;
  open_count++;
  station->phase = OPEN;
  if (storming && is_moving(station)) ask(station, now());
  else if (!is_moving(station)) become_idle(station);
  return (size_t)(end + 4 - at);
}

static void keep_rest(station_t *station, const uint8_t *bytes, size_t length) {
  if (length) memcpy(station->rest = grown(station->rest, length), bytes, length);
  station->rest_length = length;
}

static void read_station(station_t *station) {
  static uint8_t in[READ_ROOM];
  size_t length = station->rest_length, at = 0;
  if (length) memcpy(in, station->rest, length);
  ssize_t received = recv(station->socket, in + length, sizeof in - length, MSG_DONTWAIT);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (received <= 0) {
    come_again(station);
    return;
  }
  length += (size_t)received;
  for (size_t taken; station->phase != CLOSED && at < length; at += taken) {
    taken = (station->phase == OPEN ? take_frame : take_response)(station, in + at, length - at);
    if (!taken) break;
  }
  if (station->phase != CLOSED) keep_rest(station, in + at, length - at);
}

static void open_station(station_t *station) {
  int yes = 1, index = number_of(station);
  station->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (station->socket < 0) die("socket: %s", strerror(errno));
  struct sockaddr_in ours = {.sin_family = AF_INET}, theirs = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  ours.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(index / PER_ADDRESS));
  theirs.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(station->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
  setsockopt(station->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (bind(station->socket, (struct sockaddr *)&ours, sizeof ours) != 0) die("bind: %s", strerror(errno));
  station->phase = CONNECTING;
  handshakes++;
  if (connect(station->socket, (struct sockaddr *)&theirs, sizeof theirs) != 0 && errno != EINPROGRESS)
    come_again(station);
  else watch(station, EPOLL_CTL_ADD, EPOLLOUT);
}

static void send_handshake(station_t *station) {
  char request[256];
  int length = snprintf(request, sizeof request,
                        "GET /" STATION_ID " HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n",
                        number_of(station), port);
  station->phase = ASKED;
  if (send_bytes(station, request, (size_t)length)) watch(station, EPOLL_CTL_MOD, EPOLLIN);
}

static void on_ready(station_t *station, uint32_t events) {
  if (station->phase == CLOSED) return; /* it was ended earlier in this turn */
  if (station->phase != CONNECTING) read_station(station);
  else if (events & (EPOLLERR | EPOLLHUP)) come_again(station);
  else send_handshake(station);
}

/* ---- turns ------------------------------------------------------------------------------------------------------- */

static void open_due(line_t *line, int at_once) {
  while (line->length && handshakes < at_once && stations[line->items[line->head]].due <= now())
    open_station(&stations[take_first(line)]);
}

/* When the first in line comes, if that is before `until`. */
static uint64_t first_due(const line_t *line, uint64_t until) {
  uint64_t due = line->length ? stations[line->items[line->head]].due : until;
  return due < until ? due : until;
}

/* One turn: open what is due, wait (no longer than `until`), handle what came. */
static void turn(uint64_t until) {
  int at_once = storming ? station_count : AT_ONCE;
  open_due(&returns, at_once);
  open_due(&arrivals, at_once);
  uint64_t time = now(), soonest = first_due(&arrivals, first_due(&returns, until));
  uint64_t wait = soonest > time ? soonest - time : 0;
  if (wait > SECOND / 20) wait = SECOND / 20;
  if (!wait && handshakes >= at_once) wait = SECOND / 1000;
  struct timespec timeout = {0, (long)wait};
  struct pollfd ready = {epoll, POLLIN, 0};
  if (ppoll(&ready, 1, &timeout, NULL) <= 0) return;
  struct epoll_event events[EVENTS];
  int count = epoll_wait(epoll, events, EVENTS, 0);
  for (int index = 0; index < count; index++) on_ready(&stations[events[index].data.u32], events[index].events);
}

/* The next station that is connected and has no CALL outstanding; NULL: there is none. */
static station_t *next_idle(void) {
  while (idle_line.length) {
    station_t *station = &stations[take_first(&idle_line)];
    station->idle = false;
    if (station->phase == OPEN && !station->call) return station;
  }
  return NULL;
}

static void keep_outstanding(uint64_t until) {
  station_t *station;
  for (uint64_t time = now(); time < until; time = now()) {
    while (missing(&account) < (uint64_t)outstanding_wanted && (station = next_idle())) ask(station, time);
    turn(until);
  }
}

static void keep_rate(uint64_t until) {
  static uint64_t began, asked;
  if (!began) began = now();
  for (uint64_t time = now(); time < until; time = now()) {
    uint64_t due;
    station_t *station;
    while ((due = began + (uint64_t)((double)asked / rate * 1e9)) <= time && (station = next_idle()))
      ask(station, due), asked++;
    turn(due > time && due < until ? due : until);
  }
}

static void await_answers(double limit) {
  uint64_t until = now() + nanoseconds(limit);
  while (missing(&account) && now() < until) turn(until);
}

/* ---- the phases -------------------------------------------------------------------------------------------------- */

static void connect_all(void) {
  uint64_t until = now() + CONNECT_SECONDS * SECOND;
  for (int index = 0; index < station_count; index++) append(&arrivals, index);
  while (open_count < station_count) {
    if (now() > until) die("%d of %d stations are connected after %d s", open_count, station_count, CONNECT_SECONDS);
    turn(until);
  }
  event("connected");
  read_watched();
  failed = lost = 0; /* the gateway was starting */
}

/* One CALL first: the rest then find a worker that is up. */
static void probe(void) {
  station_t *station = next_idle();
  if (!station) die("no station is connected");
  ask(station, now());
  await_answers(PROBE_SECONDS);
  if (missing(&account)) die("no answer to the first CALL");
}

static void print_rest(void) {
  printf(",");
  print_account(&account);
  printf(",\"connected\":%d,\"failed\":%lu,\"lost\":%lu,\"pings\":%lu", open_count, failed, lost, pings);
}

static void run_ask(void) {
  static latencies_t latencies;
  probe();
  void (*send_until)(uint64_t) = rate > 0 ? keep_rate : keep_outstanding;
  send_until(now() + nanoseconds(warmup));
  uint64_t answered_before = account.answered, start = now();
  processor_time_t before = processor_time();
  counted = &latencies;
  send_until(start + nanoseconds(seconds));
  counted = NULL;
  double elapsed = (double)(now() - start) / (double)SECOND;
  processor_time_t after = processor_time();
  uint64_t round_trips = account.answered - answered_before;
  await_answers(GRACE_SECONDS);
  printf("{");
  print_count(round_trips, elapsed, &latencies);
  print_rest();
  printf(",");
  print_processor_time(&before, &after);
  puts("}");
}

/* Whether a line has come on standard input, or its end. */
static bool told(void) {
  struct pollfd input = {STDIN_FILENO, POLLIN, 0};
  return poll(&input, 1, 0) > 0;
}

static void run_answer(void) {
  processor_time_t before = processor_time();
  uint64_t start = now(), until = start + nanoseconds(seconds);
  while (now() < until && !told()) turn(until);
  processor_time_t after = processor_time();
  printf("{\"round_trips\":%lu,\"seconds\":%.6f", calls_answered, (double)(now() - start) / (double)SECOND);
  print_rest();
  printf(",");
  print_processor_time(&before, &after);
  puts("}");
}

/* The moving stations lose their connections at once, and come back in turn. To close thousands takes a while: the
 * others must not wait for that. */
static void begin_storm(uint64_t start) {
  storming = true;
  for (int index = 0; index < moving_count; index++) {
    if (index % 50 == 49) keep_rate(now() + SECOND / 10000);
    station_t *station = &stations[index];
    if (station->phase == OPEN) disconnect(station, true);
    else if (station->phase == CLOSED) continue; /* it is coming again already */
    station->due = start + nanoseconds(within * index / moving_count);
    append(&arrivals, index);
  }
}

static void run_storm(void) {
  static latencies_t calm, storm;
  probe();
  keep_rate(now() + nanoseconds(warmup));
  counted = &calm;
  keep_rate(now() + nanoseconds(seconds));
  counted = &storm;
  uint64_t start = now(), until = start + STORM_SECONDS * SECOND, answered_before = account.answered;
  processor_time_t before = processor_time();
  begin_storm(start);
  while (served < (uint64_t)moving_count && now() < until) keep_rate(now() + SECOND / 20);
  counted = NULL;
  double elapsed = (double)(now() - start) / (double)SECOND;
  processor_time_t after = processor_time();
  uint64_t round_trips = account.answered - answered_before;
  await_answers(GRACE_SECONDS);
  printf("{");
  print_count(round_trips, elapsed, &storm);
  print_rest();
  printf(",\"calm_p50_us\":%.1f,\"calm_p99_us\":%.1f,\"served\":%lu,\"last_served_s\":%.3f,", percentile_us(&calm, 0.5),
         percentile_us(&calm, 0.99), served, served ? (double)(last_served - start) / (double)SECOND : 0);
  print_processor_time(&before, &after);
  puts("}");
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

static void read_options(int argument_count, char **arguments) {
  for (int index = 2; index + 1 < argument_count; index += 2) {
    const char *option = arguments[index], *value = arguments[index + 1];
    if (!strcmp(option, "--port")) port = atoi(value);
    else if (!strcmp(option, "--stations")) station_count = atoi(value);
    else if (!strcmp(option, "--moving")) moving_count = atoi(value);
    else if (!strcmp(option, "--vendor")) vendor = value;
    else if (!strcmp(option, "--outstanding")) outstanding_wanted = atol(value);
    else if (!strcmp(option, "--rate")) rate = atof(value);
    else if (!strcmp(option, "--seconds")) seconds = atof(value);
    else if (!strcmp(option, "--within")) within = atof(value);
    else if (!strcmp(option, "--warmup")) warmup = atof(value);
    else if (!strcmp(option, "--size")) size = atol(value);
    else die("unknown option %s", option);
  }
  if (port < 1 || port > 65535 || station_count < 1 || station_count > MOST_STATIONS)
    die("usage: fleet ask|answer|idle|storm --port PORT --stations NUMBER …");
}

/* A file descriptor for each station. */
static void allow_files(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  rlim_t needed = (rlim_t)station_count + OTHER_FILES;
  if (limit.rlim_max < needed) die("the limit of open files is %lu, for %d stations", limit.rlim_max, station_count);
  limit.rlim_cur = limit.rlim_cur < needed ? needed : limit.rlim_cur;
  setrlimit(RLIMIT_NOFILE, &limit);
}

static void (*mode_named(const char *name))(void) {
  if (!strcmp(name, "ask")) return run_ask;
  if (!strcmp(name, "answer") || !strcmp(name, "idle")) return run_answer;
  if (!strcmp(name, "storm")) return run_storm;
  die("ask, answer, idle or storm, not %s", name);
}

int main(int argument_count, char **arguments) {
  read_options(argument_count, arguments);
  void (*run)(void) = mode_named(arguments[1]);
  bool storm = run == run_storm;
  if (!storm) moving_count = 0;
  if (storm && (moving_count < 1 || moving_count >= station_count || rate <= 0))
    die("storm needs a --rate, and --moving stations, but not all");
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  alarm(LONGEST_RUN_SECONDS);
  allow_files();
  stations = cleared((size_t)station_count, sizeof *stations);
  for (line_t **line = (line_t *[]){&idle_line, &arrivals, &returns, NULL}; *line; line++)
    (*line)->items = cleared((size_t)station_count, sizeof(int));
  if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll: %s", strerror(errno));
  make_call();
  connect_all();
  run();
  return 0;
}
