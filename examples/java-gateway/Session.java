import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import java.io.IOException;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListMap;

/** The life of one connection. */
final class Session {
    /** What the broker did with a message. */
    enum Outcome {
        CONFIRMED,
        /** No queue takes it. */
        RETURNED,
        /** A queue is full, or cannot take it now. */
        REFUSED,
        /** Nobody knows: the channel or the connection ended first. */
        LOST
    }

    /** Declares, binds and consumes. */
    final Channel in;

    /** The private queues: for the answers of workers, and for requests to stations. */
    final String replies, requests;

    /** Completes when the connection has ended. */
    final CompletableFuture<Object> gone = new CompletableFuture<>();

    private final Connection connection;
    private Publisher out;

    Session(String url) throws Exception {
        var factory = new ConnectionFactory();
        factory.setUri(url);
        factory.setRequestedHeartbeat(10);
        factory.setConnectionTimeout(10_000);
        // What is bound and published again, and in which order, is the bridge's business.
        factory.setAutomaticRecoveryEnabled(false);
        connection = factory.newConnection("java-gateway");
        connection.addShutdownListener(cause -> gone.complete(cause));
        try {
            in = connection.createChannel();
            in.addShutdownListener(cause -> Bridge.THREADS.execute(this::close));
            // With the arguments of the contract, so it does not matter who comes first.
            in.exchangeDeclare("datatransfer.unrouted", "fanout", true);
            in.exchangeDeclare(
                    "datatransfer", "direct", true, false, Map.of("alternate-exchange", "datatransfer.unrouted"));
            in.exchangeDeclare("datatransfer.stations", "direct", true);
            replies = in.queueDeclare().getQueue(); // exclusive, auto-delete, and the broker makes the name
            requests = in.queueDeclare().getQueue();
            in.basicQos(Bridge.PREFETCH);
            out = new Publisher();
        } catch (IOException | RuntimeException error) {
            close();
            throw error;
        }
    }

    void bind(String stationId) throws IOException {
        in.queueBind(requests, "datatransfer.stations", Keys.ofStation(stationId));
    }

    void unbind(String stationId) throws IOException {
        in.queueUnbind(requests, "datatransfer.stations", Keys.ofStation(stationId));
    }

    CompletableFuture<Outcome> publish(
            String exchange, String key, boolean mandatory, BasicProperties properties, byte[] body) {
        Publisher used;
        synchronized (this) {
            used = out;
        }
        return used.publish(exchange, key, mandatory, properties, body);
    }

    void close() {
        connection.abort(5_000);
    }

    /** Opens another channel to publish on. What the old one has not confirmed is LOST, and is published again. */
    private synchronized void renew(Publisher old) {
        if (out != old || !connection.isOpen()) {
            return;
        }
        try {
            out = new Publisher();
            old.channel.abort();
        } catch (IOException | RuntimeException error) {
            close(); // the next connection may be better
        }
    }

    /** A channel with confirms. */
    private final class Publisher {
        private record Pending(String correlationId, CompletableFuture<Outcome> outcome) {}

        final Channel channel = connection.createChannel();
        private final NavigableMap<Long, Pending> pending = new ConcurrentSkipListMap<>();
        private final Set<String> returned = ConcurrentHashMap.newKeySet();

        Publisher() throws IOException {
            channel.confirmSelect();
            // A message that is returned is confirmed as well, just after that.
            channel.addReturnListener(message -> returned.add(message.getProperties().getCorrelationId()));
            channel.addConfirmListener((number, many) -> settle(number, many, Outcome.CONFIRMED), (number, many) -> {
                settle(number, many, Outcome.REFUSED);
                Bridge.THREADS.execute(() -> renew(this)); // the contract: again, on another channel
            });
            channel.addShutdownListener(cause -> {
                settle(Long.MAX_VALUE, true, Outcome.LOST);
                Bridge.THREADS.execute(() -> renew(this));
            });
        }

        synchronized CompletableFuture<Outcome> publish(
                String exchange, String key, boolean mandatory, BasicProperties properties, byte[] body) {
            long number = channel.getNextPublishSeqNo();
            var outcome = new CompletableFuture<Outcome>();
            pending.put(number, new Pending(properties.getCorrelationId(), outcome));
            try {
                channel.basicPublish(exchange, key, mandatory, properties, body);
            } catch (IOException | AlreadyClosedException error) {
                settle(number, false, Outcome.LOST);
            }
            return outcome;
        }

        private void settle(long number, boolean many, Outcome outcome) {
            var settled = many ? pending.headMap(number, true) : pending.subMap(number, true, number, true);
            settled.values().removeIf(message -> {
                boolean back = returned.remove(message.correlationId) && outcome == Outcome.CONFIRMED;
                return message.outcome.complete(back ? Outcome.RETURNED : outcome);
            });
        }
    }
}
