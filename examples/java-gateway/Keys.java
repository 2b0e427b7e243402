import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** Routing keys, as the wire contract makes them. */
final class Keys {
    private Keys() {}

    /** The key of a vendorId, whose case does not count. */
    static String ofVendor(String vendorId) {
        var lower = new StringBuilder();
        vendorId.chars().map(c -> 'A' <= c && c <= 'Z' ? c + 'a' - 'A' : c).forEach(c -> lower.append((char) c));
        return key(lower.toString());
    }

    /** The key of a station's id, whose case counts. */
    static String ofStation(String stationId) {
        return key(stationId);
    }

    private static String key(String text) {
        var key = new StringBuilder();
        for (byte b : text.getBytes(UTF_8)) {
            char c = (char) (b & 0xff);
            boolean stays = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-';
            key.append(stays ? String.valueOf(c) : String.format("_%02x", (int) c));
        }
        return key.length() <= 200 ? key.toString() : key.substring(0, 100) + "_x" + sha256(key.toString());
    }

    static String sha256(String text) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(UTF_8)));
        } catch (NoSuchAlgorithmException impossible) { // every Java has it
            throw new IllegalStateException(impossible);
        }
    }
}
