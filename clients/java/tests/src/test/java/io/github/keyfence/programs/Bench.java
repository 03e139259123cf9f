package io.github.keyfence.programs;

import io.github.keyfence.BatchingOptions;
import io.github.keyfence.CacheOptions;
import io.github.keyfence.Check;
import io.github.keyfence.KeyfenceClient;
import io.github.keyfence.KeyfenceException;
import io.github.keyfence.Verdict;
import io.github.keyfence.testkit.FakeKeyfence;
import io.github.keyfence.testkit.KeyfenceProcess;
import io.github.keyfence.v1.ApplyKeyspaceRequest;
import io.github.keyfence.v1.CreateKeyRequest;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;

/**
 * Measures a hit, the memory of a cached key, and what concurrent checks cost a real server, one by
 * one and batched. Its arguments say what: hit, memory, batch.
 */
public final class Bench {
  private static final int HITS = 1_000_000;
  private static final int KEYS = 10_000;
  private static final int CONCURRENT = 32;
  private static final int ROUNDS = 300;

  private Bench() {}

  /** Prints a line for each figure. */
  public static void main(String[] arguments) {
    for (String asked : arguments) {
      switch (asked) {
        case "hit" -> hit();
        case "memory" -> memory();
        case "batch" -> batch();
        default -> throw new IllegalArgumentException("there is no figure " + asked);
      }
    }
  }

  private static void say(String text, Object... figures) {
    System.out.println(String.format(Locale.ROOT, text, figures));
  }

  private static KeyfenceClient live(KeyfenceClient.Builder builder) {
    KeyfenceClient client = builder.cache(new CacheOptions(KEYS)).build();
    while (!client.cacheStatus().orElseThrow().isLive()) {
      try {
        client.authenticate(Check.of("kf_live_unknown"));
        Thread.sleep(5);
      } catch (KeyfenceException | InterruptedException notYet) {
        Thread.onSpinWait();
      }
    }
    return client;
  }

  private static void hit() {
    try (FakeKeyfence server = FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read"));
        KeyfenceClient client = live(server.client())) {
      FakeKeyfence.MadeKey key = server.createKey("demo", "vps:read");
      for (int round = 0; round < 5; round++) {
        long began = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
        int allowed = 0;
        for (int count = 0; count < HITS; count++) {
          Check check = Check.of(key.apiKey(), "vps:read").inKeyspace("demo");
          allowed += client.checkScope(check).isAllowed() ? 1 : 0;
        }
        long spent = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - began;
        say("hit: %.2f us of CPU (round %d, %d allowed)", spent / 1e3 / HITS, round, allowed);
      }
    }
  }

  private static long used() {
    long least = Long.MAX_VALUE;
    for (int round = 0; round < 5; round++) {
      System.gc();
      Runtime runtime = Runtime.getRuntime();
      least = Math.min(least, runtime.totalMemory() - runtime.freeMemory());
    }
    return least;
  }

  private static void memory() {
    try (FakeKeyfence server = FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read"));
        KeyfenceClient client = live(server.client())) {
      List<Check> checks = new ArrayList<>();
      for (int count = 0; count < KEYS; count++) {
        checks.add(Check.of(server.createKey("demo", "vps:read").apiKey(), "vps:read"));
      }
      client.checkScope(checks.get(0));
      long before = used();
      checks.forEach(client::checkScope);
      long after = used();
      int keys = client.cacheStatus().orElseThrow().keys();
      say("memory: %d bytes a key (%d keys)", (after - before) / keys, keys);
    }
  }

  private static void batch() {
    try (KeyfenceProcess process = KeyfenceProcess.start();
        KeyfenceClient operator = process.client().build()) {
      operator
          .keyspaces()
          .applyKeyspace(
              ApplyKeyspaceRequest.newBuilder()
                  .setKeyspace(FakeKeyfence.keyspace("demo", "vps:read"))
                  .build());
      String key =
          operator
              .keys()
              .createKey(
                  CreateKeyRequest.newBuilder()
                      .setKeyspace("demo")
                      .setAccountId("acct_1")
                      .addScopes("vps:read")
                      .build())
              .getApiKey();
      Check check = Check.of(key, "vps:read").inKeyspace("demo");
      try (KeyfenceClient batched = process.client().batching(BatchingOptions.defaults()).build()) {
        for (int round = 0; round < 2; round++) {
          say(
              "one by one: %.0f us of the server's CPU for 32 checks",
              cost(process, operator, check));
          say("batched: %.0f us of the server's CPU for 32 checks", cost(process, batched, check));
        }
      }
    }
  }

  private static double cost(KeyfenceProcess process, KeyfenceClient client, Check check) {
    long began = cpu(process);
    for (int round = 0; round < ROUNDS; round++) {
      List<CompletableFuture<Verdict>> asked = new ArrayList<>();
      for (int count = 0; count < CONCURRENT; count++) {
        asked.add(client.checkScopeAsync(check));
      }
      asked.forEach(CompletableFuture::join);
    }
    return (cpu(process) - began) / 1e3 / ROUNDS;
  }

  private static long cpu(KeyfenceProcess process) {
    return process.handle().info().totalCpuDuration().orElseThrow().toNanos();
  }
}
