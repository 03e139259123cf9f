package io.github.keyfence.guard;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.io.StringReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A text with placeholders, as docs/http.md has them. Values are texts, numbers, lists of texts, or
 * null for nothing.
 */
final class Template {
  private static final Pattern PART = Pattern.compile("\\{\\{|\\}\\}|\\{([a-z_]+)\\}|[{}]");
  private static final int MAX_DEPTH = 8;
  private static final Gson GSON =
      new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

  // Literal texts at even places and names of values at odd ones.
  private final List<String> parts = new ArrayList<>();

  private Template() {}

  /**
   * Reads a template.
   *
   * @throws IllegalArgumentException if a brace belongs to no placeholder.
   */
  static Template parse(String text) {
    Template template = new Template();
    StringBuilder literal = new StringBuilder();
    Matcher found = PART.matcher(text);
    int position = 0;
    while (found.find()) {
      literal.append(text, position, found.start());
      position = found.end();
      if (found.group(1) != null) {
        template.parts.add(literal.toString());
        template.parts.add(found.group(1));
        literal.setLength(0);
      } else if (found.group().length() == 2) {
        literal.append(found.group().charAt(0));
      } else {
        throw new IllegalArgumentException(
            "the \""
                + found.group()
                + "\" at character "
                + (found.start() + 1)
                + " belongs to no placeholder");
      }
    }
    template.parts.add(literal.append(text.substring(position)).toString());
    return template;
  }

  String render(Map<String, Object> values, String separator) {
    StringBuilder text = new StringBuilder();
    for (int index = 0; index < parts.size(); index++) {
      if (index % 2 == 0) {
        text.append(parts.get(index));
        continue;
      }
      Object value = values.get(parts.get(index));
      if (value instanceof List<?> list) {
        text.append(String.join(separator, list.stream().map(String::valueOf).toList()));
      } else if (value != null) {
        text.append(value);
      }
    }
    return text.toString();
  }

  /** The template as a value of JSON: of one that is only a placeholder, the value itself. */
  private JsonElement value(Map<String, Object> values) {
    boolean isPlaceholder = parts.size() == 3 && parts.get(0).isEmpty() && parts.get(2).isEmpty();
    return isPlaceholder
        ? GSON.toJsonTree(values.get(parts.get(1)))
        : new JsonPrimitive(render(values, ", "));
  }

  /**
   * Reads the body of an answer.
   *
   * @throws IllegalArgumentException if it is not JSON that can be used.
   */
  static Function<Map<String, Object>, String> body(String text, boolean isJson) {
    if (!isJson) {
      Template template = parse(text);
      return values -> template.render(values, ", ");
    }
    Function<Map<String, Object>, JsonElement> root = node(read(text), MAX_DEPTH);
    return values -> GSON.toJson(root.apply(values));
  }

  private static JsonElement read(String text) {
    try (JsonReader reader = new JsonReader(new StringReader(text))) {
      reader.setStrictness(Strictness.STRICT);
      JsonElement whole = JsonParser.parseReader(reader);
      if (reader.peek() != JsonToken.END_DOCUMENT) {
        throw new IllegalArgumentException("the body is more than one value of JSON");
      }
      return whole;
    } catch (IOException | JsonParseException broken) {
      throw new IllegalArgumentException(
          "the body is not JSON that can be used: " + broken.getMessage(), broken);
    }
  }

  /**
   * Compiles a value of JSON. Placeholders stand in strings, and what is put into them is a value,
   * so that none can break out of its place.
   */
  private static Function<Map<String, Object>, JsonElement> node(JsonElement element, int depth) {
    if (depth < 0) {
      throw new IllegalArgumentException("the body is nested too deep");
    }
    if (element.isJsonObject()) {
      List<Map.Entry<String, Function<Map<String, Object>, JsonElement>>> inner = new ArrayList<>();
      element
          .getAsJsonObject()
          .entrySet()
          .forEach(one -> inner.add(Map.entry(one.getKey(), node(one.getValue(), depth - 1))));
      return values -> {
        JsonObject made = new JsonObject();
        inner.forEach(one -> made.add(one.getKey(), one.getValue().apply(values)));
        return made;
      };
    }
    if (element.isJsonArray()) {
      List<Function<Map<String, Object>, JsonElement>> inner = new ArrayList<>();
      element.getAsJsonArray().forEach(one -> inner.add(node(one, depth - 1)));
      return values -> {
        JsonArray made = new JsonArray();
        inner.forEach(one -> made.add(one.apply(values)));
        return made;
      };
    }
    if (element.isJsonPrimitive() && element.getAsJsonPrimitive().isString()) {
      Template template = parse(element.getAsString());
      return template::value;
    }
    JsonElement constant = element.isJsonNull() ? JsonNull.INSTANCE : element;
    return values -> constant;
  }
}
