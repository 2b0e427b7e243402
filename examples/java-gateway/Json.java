import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParseException;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.io.JsonStringEncoder;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** JSON, cut into pieces of text: what is passed on is never read, so that it stays as it is, byte for byte. */
final class Json {
    private static final JsonFactory FACTORY = new JsonFactory();

    private Json() {}

    /** The elements of an array. */
    static List<String> elements(String json) throws IOException {
        try (JsonParser parser = begin(json, JsonToken.START_ARRAY)) {
            var elements = new ArrayList<String>();
            while (parser.nextToken() != JsonToken.END_ARRAY) {
                elements.add(piece(parser, json));
            }
            end(parser);
            return elements;
        }
    }

    /** The fields of an object. */
    static Map<String, String> fields(String json) throws IOException {
        try (JsonParser parser = begin(json, JsonToken.START_OBJECT)) {
            var fields = new LinkedHashMap<String, String>();
            while (parser.nextToken() != JsonToken.END_OBJECT) {
                String name = parser.getCurrentName();
                parser.nextToken();
                fields.put(name, piece(parser, json));
            }
            end(parser);
            return fields;
        }
    }

    private static JsonParser begin(String json, JsonToken token) throws IOException {
        JsonParser parser = FACTORY.createParser(json);
        if (parser.nextToken() != token) {
            throw new JsonParseException(parser, "expected " + token);
        }
        return parser;
    }

    private static void end(JsonParser parser) throws IOException {
        if (parser.nextToken() != null) {
            throw new JsonParseException(parser, "there is more");
        }
    }

    private static String piece(JsonParser parser, String json) throws IOException {
        int begin = (int) parser.getTokenLocation().getCharOffset();
        parser.skipChildren();
        parser.finishToken();
        return json.substring(begin, (int) parser.getCurrentLocation().getCharOffset()).strip();
    }

    static boolean isString(String json) {
        return json != null && json.startsWith("\"");
    }

    /** What a piece that is a string says. */
    static String text(String json) throws IOException {
        try (JsonParser parser = begin(json, JsonToken.VALUE_STRING)) {
            return parser.getText();
        }
    }

    static String quoted(String text) {
        return '"' + new String(JsonStringEncoder.getInstance().quoteAsString(text)) + '"';
    }
}
