import static java.nio.charset.StandardCharsets.UTF_8;

import io.netty.channel.Channel;
import io.netty.handler.codec.http.websocketx.CloseWebSocketFrame;
import io.netty.handler.codec.http.websocketx.TextWebSocketFrame;
import java.io.IOException;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeoutException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A charging station's connection. Payloads go through it as they are, byte for byte. */
final class Station {
    /** Requests that wait, in either direction, beside the one that is under way. */
    private static final int IN_LINE = 19;
    /** Kind and message id of an answer that cannot be read as a whole. */
    private static final Pattern BEGINNING = Pattern.compile("^\\s*\\[\\s*[34]\\s*,\\s*\"([^\"\\\\]*)\"");

    private record Asked(String messageId, CompletableFuture<Reply> answer) {}

    final String id;
    private final String version;
    private final String connectionId = UUID.randomUUID().toString();
    private final Bridge bridge;
    private final Channel socket;

    /** Of the station, for the CSMS, and of the CSMS, for the station: in each direction one at a time. */
    private final Line requests = new Line(Bridge.THREADS, IN_LINE), calls = new Line(Bridge.THREADS, IN_LINE);
    /** Payloads of the station's requests, by message id. */
    private final Map<String, String> inHand = new ConcurrentHashMap<>();
    /** The CALL that the station has. */
    private volatile Asked asked = new Asked("", new CompletableFuture<>());

    /** Completes when the socket is closed. */
    private final CompletableFuture<Void> lost = new CompletableFuture<>();
    /** Completes when no more calls come. */
    private final CompletableFuture<Void> unbound = new CompletableFuture<>();

    Station(Bridge bridge, Channel socket, String id, String version) {
        this.bridge = bridge;
        this.socket = socket;
        this.id = id;
        this.version = version;
        Bridge.THREADS.execute(() -> bridge.connect(this));
    }

    void onClosed() {
        lost.complete(null);
        Bridge.THREADS.execute(() -> {
            bridge.disconnect(this);
            unbound.complete(null);
        });
    }

    void close(String reason) {
        socket.writeAndFlush(new CloseWebSocketFrame(1001, reason)).addListener(written -> socket.close());
    }

    private void write(String format, Object... arguments) {
        socket.writeAndFlush(new TextWebSocketFrame(format.formatted(arguments)));
    }

    private void writeError(String messageId, String code, String description) {
        write("[4,%s,\"%s\",\"%s\",{}]", Json.quoted(messageId), code, description);
    }

    /** The code of an error that 1.6 knows by one name only. */
    private String code(String since2) {
        return version.equals("ocpp1.6") ? "FormationViolation" : since2;
    }

    private String noMessage() {
        return code("RpcFrameworkError");
    }

    void onFrame(String frame) {
        try {
            List<String> parts = Json.elements(frame);
            String kind = parts.get(0);
            String messageId = Json.text(parts.get(1));
            if (kind.equals("2") && parts.size() == 4) {
                onCall(messageId, parts.get(2), parts.get(3));
            } else if (kind.equals("3") && parts.size() == 3) {
                onAnswer(messageId, new Reply("DataTransferResponse", parts.get(2).getBytes(UTF_8), true));
            } else if (kind.equals("4") && parts.size() == 5) {
                Json.text(parts.get(2));
                Json.text(parts.get(3));
                String details = parts.get(4).startsWith("{") ? parts.get(4) : "{}";
                onAnswer(messageId, Reply.callError(parts.get(2), parts.get(3), details, true));
            } else {
                onBroken(frame);
            }
        } catch (IOException | IndexOutOfBoundsException error) {
            onBroken(frame);
        }
    }

    private void onBroken(String frame) {
        Matcher answer = BEGINNING.matcher(frame);
        if (answer.find()) {
            onAnswer(answer.group(1), Reply.callError(code("FormatViolation"), "The station's answer cannot be read."));
        } else {
            writeError("-1", noMessage(), "");
        }
    }

    // ---- station → CSMS ----

    private void onCall(String messageId, String action, String payload) {
        if (!action.equals("\"DataTransfer\"")) {
            writeError(messageId, "NotImplemented", ""); // where your gateway does the rest of OCPP
        } else if (messageId.length() > 36) {
            writeError(messageId, noMessage(), "The message id has more than 36 characters.");
        } else if (!payload.equals(inHand.put(messageId, payload))) { // else one answer serves both
            Instant deadline = Instant.now().plus(bridge.timeout);
            if (!requests.add(() -> ask(messageId, payload, deadline))) {
                inHand.remove(messageId);
                writeError(messageId, "GenericError", "Too many requests wait.");
            }
        }
    }

    private void ask(String messageId, String payload, Instant deadline) {
        bridge.inHand.incrementAndGet();
        try {
            var request = new Bridge.Request(id, version, connectionId, messageId, vendorOf(payload), payload);
            Reply reply = bridge.ask(request, deadline, lost);
            String body = new String(reply.body(), UTF_8);
            if ("DataTransferResponse".equals(reply.type())) {
                write("[3,%s,%s]", Json.quoted(messageId), body);
            } else if ("CallError".equals(reply.type())) {
                Map<String, String> error = Json.fields(body);
                write("[4,%s,%s,%s,%s]", Json.quoted(messageId),
                        error.get("errorCode"), error.get("errorDescription"), error.get("errorDetails"));
            } else {
                writeError(messageId, "InternalError", "");
            }
        } catch (TimeoutException error) {
            writeError(messageId, "GenericError", "The CSMS did not answer.");
        } catch (IOException | RuntimeException error) {
            System.err.printf("%s: %s%n", id, error);
            writeError(messageId, "InternalError", "");
        } finally {
            inHand.remove(messageId);
            bridge.inHand.decrementAndGet();
        }
    }

    /** The vendorId, or "" if there is none that makes a key: the bridge answers what is broken. */
    private static String vendorOf(String payload) {
        try {
            String vendorId = Json.text(Json.fields(payload).getOrDefault("vendorId", ""));
            return vendorId.codePointCount(0, vendorId.length()) > 255 ? "" : vendorId;
        } catch (IOException error) {
            return "";
        }
    }

    // ---- CSMS → station ----

    /** Gives the call a place in the station's line, and returns false if there is none. */
    boolean take(Bridge.Call call) {
        return calls.add(() -> call.reply().complete(send(call).in(version)));
    }

    private Reply send(Bridge.Call call) {
        if (lost.isDone()) {
            unbound.join(); // not before: the CSMS looks for the station again at once
            return Reply.offline(false);
        }
        if (!Instant.now().isBefore(call.deadline())) {
            return Reply.NONE; // nobody waits any more
        }
        String payload;
        try {
            payload = inVersion(call.payload());
        } catch (IOException error) {
            return Reply.callError(code("FormatViolation"), "The request cannot be read.");
        }
        var answer = new CompletableFuture<Reply>();
        asked = new Asked(UUID.randomUUID().toString(), answer);
        write("[2,\"%s\",\"DataTransfer\",%s]", asked.messageId, payload);
        Bridge.await(call.deadline(), answer, lost);
        if (answer.isDone()) {
            return answer.join();
        }
        asked = new Asked("", answer); // a late answer is nobody's
        if (lost.isDone()) {
            unbound.join();
            return Reply.offline(true);
        }
        return Reply.NONE;
    }

    private void onAnswer(String messageId, Reply reply) {
        Asked call = asked;
        if (call.messageId.equals(messageId)) {
            call.answer.complete(reply);
        }
    }

    /** The payload in the station's version: 1.6 has three fields, and data is text. */
    private String inVersion(String payload) throws IOException {
        Map<String, String> fields = Json.fields(payload);
        if (!version.equals("ocpp1.6")) {
            return payload;
        }
        fields.keySet().retainAll(List.of("vendorId", "messageId", "data"));
        fields.values().removeIf("null"::equals);
        fields.computeIfPresent("data", (name, data) -> Json.isString(data) ? data : Json.quoted(data));
        var written = new StringBuilder();
        fields.forEach((name, value) ->
                written.append(written.isEmpty() ? "{" : ",").append('"').append(name).append("\":").append(value));
        return written.isEmpty() ? "{}" : written.append('}').toString();
    }
}
