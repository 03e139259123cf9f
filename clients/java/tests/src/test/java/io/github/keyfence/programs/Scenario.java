package io.github.keyfence.programs;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.github.keyfence.BatchingOptions;
import io.github.keyfence.CacheOptions;
import io.github.keyfence.Check;
import io.github.keyfence.KeyfenceClient;
import io.github.keyfence.KeyfenceException;
import io.github.keyfence.Result;
import io.github.keyfence.Verdict;
import io.github.keyfence.v1.Principal;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

/** Lets the repository's table of scenarios, torture and benchmark call the client. */
public final class Scenario {
  private KeyfenceClient client;

  private Scenario() {}

  /** Runs until the standard input ends. */
  public static void main(String[] arguments) throws IOException {
    Scenario scenario = new Scenario();
    Lines.serve(scenario::answer);
    if (scenario.client != null) {
      scenario.client.close();
    }
  }

  private JsonObject answer(JsonObject asked) {
    if (Lines.text(asked, "do").equals("open")) {
      client = open(asked);
      return new JsonObject();
    }
    KeyfenceClient asking = client;
    if (asked.has("timeout_seconds")) {
      long millis = (long) (asked.get("timeout_seconds").getAsDouble() * 1000);
      asking = client.withTimeout(Duration.ofMillis(millis));
    }
    try {
      return switch (Lines.text(asked, "do")) {
        case "check" -> told(asking.checkScope(check(asked)));
        case "authenticate" -> told(asking.authenticate(check(asked)));
        case "batch" -> batch(asking, asked.getAsJsonArray("checks"));
        case "together" -> together(asking, asked.getAsJsonArray("checks"));
        case "who_am_i" -> told(asking.whoAmI(), new JsonObject());
        case "status" -> status();
        case "measure" -> measured(asking, asked);
        case "memory" -> memory();
        default -> throw new IllegalArgumentException("there is no command " + asked.get("do"));
      };
    } catch (KeyfenceException failed) {
      return told(failed);
    }
  }

  private static KeyfenceClient open(JsonObject asked) {
    KeyfenceClient.Builder builder =
        KeyfenceClient.builder(Lines.text(asked, "target")).token(Lines.text(asked, "token"));
    switch (Lines.text(asked, "mode")) {
      case "cached" -> builder.cache(CacheOptions.defaults());
      case "batched" -> builder.batching(BatchingOptions.defaults());
      default -> {}
    }
    return builder.build();
  }

  private static Check check(JsonObject asked) {
    Check check =
        Check.of(Lines.text(asked, "api_key"), Lines.texts(asked, "scopes").toArray(String[]::new))
            .inKeyspace(Lines.text(asked, "keyspace"))
            .fromAddress(Lines.text(asked, "client_address"));
    if (asked.has("at_least_revision")) {
      check = check.atLeastRevision(asked.get("at_least_revision").getAsLong());
    }
    return asked.has("explain") && asked.get("explain").getAsBoolean() ? check.explained() : check;
  }

  private static JsonObject batch(KeyfenceClient client, JsonArray asked) {
    List<Check> checks = new ArrayList<>();
    for (JsonElement one : asked) {
      checks.add(check(one.getAsJsonObject()));
    }
    JsonArray results = new JsonArray();
    for (Result result : client.batchCheckScope(checks)) {
      if (result instanceof Result.Failed failed) {
        results.add(told(failed.error()));
      } else {
        results.add(told(result.orThrow()));
      }
    }
    JsonObject reply = new JsonObject();
    reply.add("results", results);
    return reply;
  }

  private static JsonObject together(KeyfenceClient client, JsonArray asked) {
    List<CompletableFuture<JsonObject>> answers = new ArrayList<>();
    for (JsonElement one : asked) {
      answers.add(
          client
              .checkScopeAsync(check(one.getAsJsonObject()))
              .handle((verdict, failed) -> failed == null ? told(verdict) : told(cause(failed))));
    }
    JsonArray results = new JsonArray();
    answers.forEach(one -> results.add(one.join()));
    JsonObject reply = new JsonObject();
    reply.add("results", results);
    return reply;
  }

  private static KeyfenceException cause(Throwable failed) {
    return (KeyfenceException) (failed instanceof CompletionException ? failed.getCause() : failed);
  }

  /** Makes the same check many times, so many at once, and says how long the timed ones took. */
  private static JsonObject measured(KeyfenceClient client, JsonObject asked) {
    Check check = check(asked);
    int count = asked.get("count").getAsInt();
    int every = asked.get("timed_every").getAsInt();
    long[] took = new long[(count + every - 1) / every];
    AtomicInteger begun = new AtomicInteger();
    List<CompletableFuture<Void>> asking = new ArrayList<>();
    ExecutorService threads = Executors.newCachedThreadPool();
    for (int thread = 0; thread < asked.get("at_once").getAsInt(); thread++) {
      asking.add(
          CompletableFuture.runAsync(
              () -> {
                for (int at = begun.getAndIncrement(); at < count; at = begun.getAndIncrement()) {
                  boolean isTimed = at % every == 0;
                  long began = isTimed ? System.nanoTime() : 0;
                  boolean isAllowed = client.checkScope(check).isAllowed();
                  if (isTimed) {
                    took[at / every] = System.nanoTime() - began;
                  }
                  if (!isAllowed) {
                    throw new IllegalStateException("the check was not allowed");
                  }
                }
              },
              threads));
    }
    asking.forEach(CompletableFuture::join);
    threads.shutdown();
    Arrays.sort(took);
    JsonObject reply = new JsonObject();
    reply.addProperty("p50_us", took[took.length / 2] / 1e3);
    reply.addProperty("p99_us", took[(int) (took.length * 99L / 100)] / 1e3);
    return reply;
  }

  private static JsonObject memory() {
    long least = Long.MAX_VALUE;
    for (int round = 0; round < 5; round++) {
      System.gc();
      Runtime runtime = Runtime.getRuntime();
      least = Math.min(least, runtime.totalMemory() - runtime.freeMemory());
    }
    JsonObject reply = new JsonObject();
    reply.addProperty("bytes", least);
    return reply;
  }

  private JsonObject status() {
    JsonObject reply = new JsonObject();
    client
        .cacheStatus()
        .ifPresent(
            status -> {
              reply.addProperty("live", status.isLive());
              reply.addProperty("hits", status.hits());
            });
    return reply;
  }

  private static JsonObject told(Verdict verdict) {
    JsonObject reply = new JsonObject();
    reply.addProperty("allowed", verdict.isAllowed());
    reply.addProperty("reason", verdict.reason().name().replaceFirst("REASON_", ""));
    if (verdict instanceof Verdict.Denied denied) {
      reply.add("missing_scopes", Lines.array(denied.missingScopes()));
    }
    verdict
        .details()
        .explanation()
        .ifPresent(
            explained ->
                reply.add("sufficient_grants", Lines.array(explained.getSufficientGrantsList())));
    verdict.caller().ifPresent(principal -> told(principal, reply));
    return reply;
  }

  private static JsonObject told(Principal principal, JsonObject reply) {
    reply.addProperty("key_id", principal.getKeyId());
    reply.addProperty("account_id", principal.getAccountId());
    return reply;
  }

  private static JsonObject told(KeyfenceException failed) {
    JsonObject error = new JsonObject();
    error.addProperty("status", failed.code().name());
    error.addProperty("reason", failed.reason());
    JsonObject metadata = new JsonObject();
    failed.metadata().forEach(metadata::addProperty);
    error.add("metadata", metadata);
    error.add(
        "fields",
        Lines.array(failed.violations().stream().map(KeyfenceException.Violation::field).toList()));
    error.addProperty("has_request_id", !failed.requestId().isEmpty());
    JsonObject reply = new JsonObject();
    reply.add("error", error);
    return reply;
  }
}
