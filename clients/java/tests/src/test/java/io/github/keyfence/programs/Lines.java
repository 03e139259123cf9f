package io.github.keyfence.programs;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** A line of JSON in, a line of JSON out. */
final class Lines {
  private Lines() {}

  /** Does what a line asks for. */
  interface Program {
    JsonObject answer(JsonObject asked) throws IOException;
  }

  static void serve(Program program) throws IOException {
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    Gson gson = new Gson();
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonObject answer = program.answer(JsonParser.parseString(line).getAsJsonObject());
      out.print(gson.toJson(answer) + "\n");
      out.flush();
    }
  }

  static String text(JsonObject asked, String name) {
    JsonElement value = asked.get(name);
    return value == null || value.isJsonNull() ? "" : value.getAsString();
  }

  static List<String> texts(JsonObject asked, String name) {
    List<String> texts = new ArrayList<>();
    if (asked.has(name)) {
      asked.getAsJsonArray(name).forEach(one -> texts.add(one.getAsString()));
    }
    return texts;
  }

  static JsonArray array(Iterable<String> texts) {
    JsonArray array = new JsonArray();
    texts.forEach(array::add);
    return array;
  }
}
