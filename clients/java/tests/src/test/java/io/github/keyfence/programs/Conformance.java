package io.github.keyfence.programs;

import com.google.gson.JsonObject;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.github.keyfence.internal.holder.Answer;
import io.github.keyfence.internal.holder.Core;
import io.github.keyfence.internal.holder.Fill;
import io.github.keyfence.internal.holder.Guard;
import io.github.keyfence.internal.holder.Moment;
import io.github.keyfence.internal.holder.Question;
import io.github.keyfence.internal.holder.StreamBrokenException;
import io.github.keyfence.v1.FetchFactsResponse;
import io.github.keyfence.v1.Renew;
import io.github.keyfence.v1.SyncResponse;
import java.io.IOException;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Lets the conformance driver (conformance/README.md) speak to the holder. With an argument, one
 * guard is left out, which the driver must notice.
 */
public final class Conformance {
  private static final int MAX_KEYS = 100;

  private final Set<Guard> leftOut;
  private final Map<Integer, Fill> fills = new HashMap<>();
  private Core core;
  private Moment now = new Moment(0, 0);

  private Conformance(Set<Guard> leftOut) {
    this.leftOut = leftOut;
  }

  /** Runs until the standard input ends. */
  public static void main(String[] arguments) throws IOException {
    Set<Guard> leftOut =
        arguments.length == 0
            ? Set.of()
            : Set.of(Guard.valueOf(arguments[0].toUpperCase(Locale.ROOT)));
    Lines.serve(new Conformance(leftOut)::answer);
  }

  private JsonObject answer(JsonObject asked) throws IOException {
    long nanos = (long) (asked.get("now").getAsDouble() * 1e9);
    now = new Moment(nanos, nanos);
    JsonObject reply = new JsonObject();
    String key = Lines.text(asked, "key");
    switch (Lines.text(asked, "do")) {
      case "start" -> {
        core = new Core(MAX_KEYS, leftOut, () -> now, Instant::now);
        fills.clear();
      }
      case "begin" -> core.begin();
      case "renew" -> {
        Renew renewal = core.renewal();
        reply.addProperty("nonce", renewal.getNonce());
        reply.addProperty("applied", renewal.getAppliedRevision());
      }
      case "acknowledge" -> {
        Renew acknowledgement = core.acknowledgement();
        if (acknowledgement != null) {
          reply.addProperty("applied", acknowledgement.getAppliedRevision());
        }
      }
      case "take" -> {
        try {
          core.take(read(asked, SyncResponse.newBuilder()).build());
        } catch (StreamBrokenException broken) {
          reply.addProperty("broken", broken.getMessage());
        }
      }
      case "fill" -> {
        Fill fill = core.beginFill(key);
        if (fill != null) {
          fills.put(fills.size() + 1, fill);
          reply.addProperty("fill", fills.size());
          reply.addProperty("at_least", fill.startedAt());
        }
      }
      case "facts" ->
          core.endFill(
              fills.get(asked.get("fill").getAsInt()),
              key,
              read(asked, FetchFactsResponse.newBuilder()).build());
      case "check" -> {
        Answer answer =
            core.answer(new Question(key, List.of(Lines.text(asked, "scope")), "", "", 0));
        if (answer != null) {
          reply.addProperty("reason", answer.reason().name().replaceFirst("REASON_", ""));
        }
      }
      default -> throw new IllegalArgumentException("there is no command " + asked.get("do"));
    }
    return reply;
  }

  private static <B extends Message.Builder> B read(JsonObject asked, B message)
      throws IOException {
    JsonFormat.parser().merge(asked.get("message").toString(), message);
    return message;
  }
}
