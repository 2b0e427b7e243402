/* Opening a connection with librabbitmq, the same for the worker and the load generator. */
#ifndef BENCH_AMQP_OPEN_H
#define BENCH_AMQP_OPEN_H

#include "die.h"

#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>

#define FRAME_MAX 131072

/* An RPC of librabbitmq must have been answered as expected. */
static void expect(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
    amqp_bytes_t text = ((amqp_channel_close_t *)reply.reply.decoded)->reply_text;
    die("%s: %.*s", what, (int)text.len, (char *)text.bytes);
  }
  die("%s: %s", what, amqp_error_string2(reply.library_error));
}

/* amqp[s]://user:password@host:port/vhost[?cafile=PATH]; a TLS peer is verified against cafile. */
static amqp_connection_state_t open_connection(const char *url) {
  char *text = copy_text(url);
  const char *cafile = NULL;
  char *query = strchr(text, '?');
  if (query) {
    *query++ = 0;
    if (strncmp(query, "cafile=", 7) == 0) {
      cafile = query + 7;
      query[strcspn(query, "&")] = 0;
    }
  }
  struct amqp_connection_info info;
  if (amqp_parse_url(text, &info) != AMQP_STATUS_OK) die("not an AMQP URL: %s", url);

  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket;
  if (info.ssl) {
    socket = amqp_ssl_socket_new(connection);
    if (!socket || !cafile || amqp_ssl_socket_set_cacert(socket, cafile) != AMQP_STATUS_OK)
      die("TLS needs a readable ?cafile=");
    amqp_ssl_socket_set_verify_peer(socket, 1);
    amqp_ssl_socket_set_verify_hostname(socket, 1);
  } else {
    socket = amqp_tcp_socket_new(connection); /* sets TCP_NODELAY itself */
  }
  int status = amqp_socket_open(socket, info.host, info.port);
  if (status != AMQP_STATUS_OK) die("connect %s:%d: %s", info.host, info.port, amqp_error_string2(status));
  const char *vhost = *info.vhost ? info.vhost : "/";
  expect(amqp_login(connection, vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password), "login");
  free(text);
  return connection;
}

static void open_channel(amqp_connection_state_t connection, amqp_channel_t channel) {
  amqp_channel_open(connection, channel);
  expect(amqp_get_rpc_reply(connection), "channel.open");
}

#endif
