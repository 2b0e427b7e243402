import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * An answer, in either direction.
 *
 * @param type DataTransferResponse, CallError or StationOffline; null if there is no answer
 * @param ofStation whether a station said it, so that it stands for the same request when that comes again
 * @param version the station's; null if that is not known
 */
record Reply(String type, byte[] body, boolean ofStation, String version) {
    static final Reply NONE = new Reply(null, null, false);

    Reply(String type, byte[] body, boolean ofStation) {
        this(type, body, ofStation, null);
    }

    Reply in(String version) {
        return new Reply(type, body, ofStation, version);
    }

    static Reply callError(String code, String description) {
        return callError(Json.quoted(code), Json.quoted(description), "{}", false);
    }

    /** Of JSON. */
    static Reply callError(String code, String description, String details, boolean ofStation) {
        String body = "{\"errorCode\":%s,\"errorDescription\":%s,\"errorDetails\":%s}";
        return new Reply("CallError", body.formatted(code, description, details).getBytes(UTF_8), ofStation);
    }

    static Reply offline(boolean sent) {
        return new Reply("StationOffline", "{\"sent\":%b}".formatted(sent).getBytes(UTF_8), false);
    }
}
