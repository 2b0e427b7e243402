import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.MILLISECONDS;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Delivery;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;

/** The gateway's side of RabbitMQ. It lives as long as the gateway, whatever becomes of its sessions. */
final class Bridge {
    /** How long an answer is kept for a request that comes again. */
    static final Duration REMEMBERED = Duration.ofMinutes(10);
    /** Requests of the CSMS in hand. */
    static final int PREFETCH = 200;
    /** How often the broker may refuse a station's request before the station is told. */
    static final int REFUSALS = 4;

    /** Whatever waits has a thread of its own: from Java 21 on, let them be virtual ones. */
    static final ExecutorService THREADS = Executors.newCachedThreadPool(task -> {
        var thread = new Thread(task, "bridge");
        thread.setDaemon(true);
        return thread;
    });

    /** The DataTransfer of a station. */
    record Request(
            String stationId, String version, String connectionId, String messageId, String vendorId, String payload) {}

    private record Waiting(String stationId, CompletableFuture<Reply> reply) {}

    final Duration timeout;
    /** Requests of either side. */
    final AtomicInteger inHand = new AtomicInteger();

    private final List<String> urls;
    private final Map<String, Waiting> waiting = new ConcurrentHashMap<>();
    /** Requests of the CSMS, on their way to a station and back; a gateway with many stations bounds this. */
    private final Map<String, Call> calls = new ConcurrentHashMap<>();

    private volatile CompletableFuture<Session> session = new CompletableFuture<>();
    private volatile boolean stopping;

    /** Held while something is bound or unbound. */
    private final Object topology = new Object();

    private final Map<String, Station> stations = new HashMap<>();
    private Session bound;

    Bridge(List<String> urls, Duration timeout) {
        this.urls = urls;
        this.timeout = timeout;
    }

    /** One session after the other, each on the next host, after a pause with jitter. */
    void run() {
        for (int number = 0, failed = 0; !stopping; number++) {
            Instant began = Instant.now();
            String why;
            try {
                why = live(new Session(urls.get(number % urls.size())));
            } catch (Exception error) {
                why = error.toString();
            }
            failed = began.plusSeconds(10).isBefore(Instant.now()) ? 0 : Math.min(failed + 1, 7);
            long pause = ThreadLocalRandom.current().nextLong(100L << failed);
            System.err.printf("no connection to RabbitMQ, next try in %d ms: %s%n", pause, why);
            await(Instant.now().plusMillis(pause), new CompletableFuture<>());
        }
    }

    /** One session, to its end. */
    private String live(Session current) throws Exception {
        try {
            current.in.basicConsume(current.replies, true, (tag, reply) -> onReply(reply), tag -> {}); // without acks
            current.in.basicConsume(
                    current.requests, false, "requests", (tag, request) -> onRequest(request, current), tag -> {});
            session.complete(current); // what stations ask, and answer, can go out
            synchronized (topology) {
                for (String stationId : stations.keySet()) {
                    current.bind(stationId);
                }
                bound = current;
            }
            System.err.println("connected to RabbitMQ");
            return current.gone.get().toString();
        } finally {
            current.close();
            session = new CompletableFuture<>();
        }
    }

    // ---- stations come and go ----

    /** Returns when the CSMS can reach the station, or will with the next session. */
    void connect(Station station) {
        synchronized (topology) {
            Station before = stations.put(station.id, station);
            if (before != null) {
                before.close("the station has come back");
            }
            if (bound != null) {
                try {
                    bound.bind(station.id);
                } catch (IOException | AlreadyClosedException ended) { // the next session binds it
                }
            }
        }
    }

    /**
     * Returns when nothing for the station comes any more: only then may a CSMS hear that it is offline, for it looks
     * for the station again at once.
     */
    void disconnect(Station station) {
        synchronized (topology) {
            if (!stations.remove(station.id, station) || bound == null) {
                return; // it has come back on another socket
            }
            try {
                bound.unbind(station.id);
            } catch (IOException | AlreadyClosedException ended) { // and its queue with it
            }
        }
    }

    /** Takes nothing new of the CSMS, waits for what is in hand, and closes sockets and connection. */
    void stop(Duration drain) {
        stopping = true;
        synchronized (topology) {
            if (bound != null) {
                try {
                    bound.in.basicCancel("requests"); // its queue is deleted with it, and the CSMS gets returns
                } catch (IOException | AlreadyClosedException ended) { // as well
                }
                bound = null;
            }
        }
        Instant until = Instant.now().plus(drain);
        while (inHand.get() > 0 && Instant.now().isBefore(until)) {
            await(Instant.now().plusMillis(20), new CompletableFuture<>());
        }
        synchronized (topology) {
            stations.values().forEach(station -> station.close("the gateway stops"));
        }
        if (session.isDone()) {
            session.join().close();
        }
    }

    // ---- station → CSMS ----

    /** Publishes the request and waits for its reply, until the deadline or until the station is lost. */
    Reply ask(Request request, Instant deadline, CompletableFuture<?> lost) throws TimeoutException {
        String correlationId = UUID.randomUUID().toString();
        var reply = new CompletableFuture<Reply>();
        waiting.put(correlationId, new Waiting(request.stationId, reply));
        try {
            for (int refused = 0; refused < REFUSALS && !lost.isDone() && Instant.now().isBefore(deadline); ) {
                CompletableFuture<Session> next = session;
                if (!await(deadline, next, lost) || !next.isDone()) {
                    break;
                }
                Session used = next.join();
                // Published again, it is the same request: only reply_to is another one after a reconnect.
                var properties = new BasicProperties.Builder()
                        .contentType("application/json").type("DataTransfer").deliveryMode(2)
                        .correlationId(correlationId).messageId(request.messageId).replyTo(used.replies)
                        .expiration(millisecondsUntil(deadline)).timestamp(new Date())
                        .headers(Map.of(
                                "ocpp-station-id", request.stationId, "ocpp-connection-id", request.connectionId,
                                "ocpp-version", request.version, "ocpp-deadline", deadline.toEpochMilli()))
                        .build();
                var published = used.publish(
                        "datatransfer", Keys.ofVendor(request.vendorId), true, properties, request.payload.getBytes(UTF_8));
                await(deadline, reply, published, lost); // the reply may be faster than the confirm
                if (published.isDone() && !reply.isDone()) {
                    switch (published.join()) {
                        case CONFIRMED -> await(deadline, reply, used.gone, lost); // its end is that of the reply queue
                        case REFUSED -> {
                            refused++;
                            await(Instant.now().plusSeconds(1), reply, lost);
                        }
                        // No worker has ever run: one may be starting just now.
                        case RETURNED -> await(Instant.now().plusSeconds(1), reply, lost);
                        case LOST -> await(Instant.now().plusMillis(100), reply, lost);
                    }
                }
                if (reply.isDone()) {
                    return reply.join();
                }
            }
            throw new TimeoutException("no reply");
        } finally {
            waiting.remove(correlationId);
        }
    }

    private void onReply(Delivery reply) {
        BasicProperties properties = reply.getProperties();
        Waiting request = waiting.get(properties.getCorrelationId());
        if (request != null && request.stationId.equals(header(properties, "ocpp-station-id"))) {
            request.reply.complete(new Reply(properties.getType(), reply.getBody(), false));
        } // else it is late, or not this station's
    }

    // ---- CSMS → station ----

    /** A request of the CSMS. The reply completes at the deadline at the latest, with none. */
    record Call(String payload, Instant deadline, CompletableFuture<Reply> reply) {}

    /** Called in the order of the queue: gives each request its place in its station's line. */
    private void onRequest(Delivery delivery, Session current) {
        BasicProperties properties = delivery.getProperties();
        String stationId = header(properties, "ocpp-station-id");
        String payload = new String(delivery.getBody(), UTF_8);
        Instant deadline = deadlineOf(properties);
        // The same id, station and payload within ten minutes is the same request: it goes to the station once.
        String id = properties.getMessageId() == null
                ? UUID.randomUUID().toString()
                : Keys.sha256(String.join("\0", properties.getMessageId(), stationId, payload));
        var fresh = new Call(payload, deadline, new CompletableFuture<>());
        Call before = calls.putIfAbsent(id, fresh);
        Call call = before == null ? fresh : before;
        inHand.incrementAndGet();
        if (before == null) {
            call.reply.completeOnTimeout(Reply.NONE, millisecondsLeft(deadline), MILLISECONDS);
            call.reply.thenAccept(reply -> {
                // What a station answered stands. Anything else does not: asked again, it may be there.
                long kept = reply.ofStation() ? REMEMBERED.toMillis() : 0;
                CompletableFuture.delayedExecutor(kept, MILLISECONDS).execute(() -> calls.remove(id, call));
            });
            give(stationId, call);
        }
        call.reply.copy().completeOnTimeout(Reply.NONE, millisecondsLeft(deadline), MILLISECONDS).thenAcceptAsync(reply -> {
            try {
                respond(properties, stationId, deadline, reply);
                current.in.basicAck(delivery.getEnvelope().getDeliveryTag(), false); // only now is there room
            } catch (IOException | AlreadyClosedException ended) { // and its queue with it
            } finally {
                inHand.decrementAndGet();
            }
        }, THREADS);
    }

    private void give(String stationId, Call call) {
        synchronized (topology) { // a station that is just being unbound is offline only after that
            Station station = stations.get(stationId);
            if (stationId.isEmpty()) {
                call.reply.complete(Reply.callError("ProtocolError", "ocpp-station-id is missing"));
            } else if (station == null) {
                call.reply.complete(Reply.offline(false));
            } else if (!station.take(call)) {
                call.reply.complete(Reply.callError("GenericError", "Too many requests wait for this station."));
            }
        }
    }

    /** Publishes the reply until it is confirmed, in the next session if need be. */
    private void respond(BasicProperties request, String stationId, Instant deadline, Reply reply) {
        if (reply.type() == null || request.getCorrelationId() == null || !mayReplyTo(request.getReplyTo())) {
            return;
        }
        var headers = new HashMap<String, Object>(Map.of("ocpp-station-id", stationId));
        for (String trace : List.of("traceparent", "tracestate")) {
            if (!header(request, trace).isEmpty()) {
                headers.put(trace, header(request, trace));
            }
        }
        if (reply.version() != null) {
            headers.put("ocpp-version", reply.version());
        }
        while (Instant.now().isBefore(deadline)) {
            CompletableFuture<Session> next = session;
            if (!await(deadline, next)) {
                return;
            }
            var properties = new BasicProperties.Builder()
                    .contentType("application/json").type(reply.type()).deliveryMode(2)
                    .correlationId(request.getCorrelationId()).expiration(millisecondsUntil(deadline)).headers(headers)
                    .build();
            var published = next.join().publish("", request.getReplyTo(), false, properties, reply.body());
            if (await(deadline, published) && published.join() == Session.Outcome.CONFIRMED) {
                return;
            }
            await(Instant.now().plusMillis(100), new CompletableFuture<>());
        }
    }

    /** Knows the queues that nobody else's can be mistaken for. */
    private static boolean mayReplyTo(String queue) {
        return queue != null
                && (queue.startsWith("amq.rabbitmq.reply-to")
                        || queue.startsWith("amq.gen-")
                        || queue.startsWith("datatransfer.replies."));
    }

    private Instant deadlineOf(BasicProperties properties) {
        Object given = properties.getHeaders() == null ? null : properties.getHeaders().get("ocpp-deadline");
        if (given instanceof Number at) {
            return Instant.ofEpochMilli(at.longValue());
        }
        if (properties.getExpiration() != null) {
            return Instant.now().plusMillis(Long.parseLong(properties.getExpiration()));
        }
        return Instant.now().plus(timeout);
    }

    private static String header(BasicProperties properties, String name) {
        Object value = properties.getHeaders() == null ? null : properties.getHeaders().get(name);
        return value == null ? "" : value.toString();
    }

    private static long millisecondsLeft(Instant deadline) {
        return Math.max(1, Duration.between(Instant.now(), deadline).toMillis());
    }

    private static String millisecondsUntil(Instant deadline) {
        return Long.toString(millisecondsLeft(deadline));
    }

    /** Waits for the first of them, and returns false if there is none by then. */
    static boolean await(Instant until, CompletableFuture<?>... futures) {
        try {
            CompletableFuture.anyOf(futures).get(millisecondsLeft(until), MILLISECONDS);
            return true;
        } catch (TimeoutException | ExecutionException | InterruptedException over) {
            return false;
        }
    }
}
