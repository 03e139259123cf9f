package io.github.keyfence.internal.holder;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Timestamp;
import io.github.keyfence.v1.AddressList;
import io.github.keyfence.v1.End;
import io.github.keyfence.v1.FetchFactsResponse;
import io.github.keyfence.v1.KeyFacts;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.RevisionChanges;
import io.github.keyfence.v1.SubjectChange;
import io.github.keyfence.v1.SyncResponse;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** What every holder must do: spec/vectors/README.md. */
final class VectorsTest {
  private static final String KEY = "kf_live_key";
  private static final Set<Guard> ALL_GUARDS = Set.of();

  private static JsonElement vectors(String name) throws IOException {
    return JsonParser.parseString(
        Files.readString(Path.of("..", "..", "..", "spec", "vectors", name)));
  }

  private static Stream<JsonObject> objects(JsonElement array) {
    return StreamSupport.stream(array.getAsJsonArray().spliterator(), false)
        .map(JsonElement::getAsJsonObject);
  }

  private static Moment at(double seconds) {
    long nanos = (long) (seconds * 1e9);
    return new Moment(nanos, nanos);
  }

  @TestFactory
  Stream<DynamicTest> leasesCountAsTheVectorsSay() throws IOException {
    return objects(vectors("leases.json"))
        .map(one -> dynamicTest(one.get("name").getAsString(), () -> runLease(one)));
  }

  private static void runLease(JsonObject vector) {
    Lease lease = new Lease(ALL_GUARDS);
    objects(vector.get("steps"))
        .forEach(
            step -> {
              Moment now = step.has("now") ? at(step.get("now").getAsDouble()) : at(0);
              switch (step.get("do").getAsString()) {
                case "request" ->
                    assertEquals(step.get("nonce").getAsLong(), lease.request(now), step::toString);
                case "grant" -> {
                  boolean[] forgot = {false};
                  lease.grant(
                      now,
                      step.get("nonce").getAsLong(),
                      Duration.ofNanos((long) (step.get("ttl").getAsDouble() * 1e9)),
                      step.get("head").getAsLong(),
                      step.get("epoch").getAsString(),
                      () -> forgot[0] = true);
                  assertEquals(step.get("forget").getAsBoolean(), forgot[0], step::toString);
                }
                case "advance" -> lease.advanceTo(step.get("revision").getAsLong());
                case "abandon" -> lease.abandon();
                case "live" ->
                    assertEquals(step.get("is").getAsBoolean(), lease.isLive(now), step::toString);
                case "applied" ->
                    assertEquals(step.get("is").getAsLong(), lease.applied(), step::toString);
                default -> throw new AssertionError("there is no step " + step);
              }
            });
  }

  @TestFactory
  Stream<DynamicTest> checksAreAnsweredAsTheVectorsSay() throws IOException {
    JsonObject read = vectors("decisions.json").getAsJsonObject();
    JsonObject good = read.getAsJsonObject("good");
    return objects(read.get("cases"))
        .map(one -> dynamicTest(one.get("name").getAsString(), () -> runDecision(good, one)));
  }

  private static void runDecision(JsonObject good, JsonObject vector) {
    JsonObject facts = overlaid(good, vector, "facts");
    JsonObject question = overlaid(good, vector, "question");
    Instant now = Instant.ofEpochSecond(question.get("now").getAsLong());
    Core core = started(() -> now, 10);
    core.memory.register(
        facts.get("keyspace").getAsString(), new HashSet<>(texts(facts.get("registered"))));
    core.endFill(core.beginFill(KEY), KEY, response(facts, 10, "a"));
    Answer answer =
        core.answer(
            new Question(
                KEY,
                texts(question.get("required_scopes")),
                question.get("keyspace").getAsString(),
                question.get("client_address").getAsString(),
                question.get("at_least_revision").getAsLong()));
    if (vector.get("answer").isJsonNull()) {
      assertNull(answer);
      return;
    }
    JsonObject expected = vector.getAsJsonObject("answer");
    assertNotNull(answer);
    assertEquals("REASON_" + expected.get("reason").getAsString(), answer.reason().name());
    assertEquals(
        expected.has("missing_scopes") ? texts(expected.get("missing_scopes")) : List.of(),
        answer.missingScopes());
  }

  private static JsonObject overlaid(JsonObject good, JsonObject vector, String part) {
    JsonObject whole = good.getAsJsonObject(part).deepCopy();
    if (vector.has(part)) {
      vector
          .getAsJsonObject(part)
          .entrySet()
          .forEach(one -> whole.add(one.getKey(), one.getValue()));
    }
    return whole;
  }

  private static List<String> texts(JsonElement array) {
    List<String> texts = new ArrayList<>();
    array.getAsJsonArray().forEach(one -> texts.add(one.getAsString()));
    return texts;
  }

  private static FetchFactsResponse response(JsonObject facts, long revision, String epoch) {
    String keyspace = facts.get("keyspace").getAsString();
    String account = facts.get("account_id").getAsString();
    KeyFacts.Builder told =
        KeyFacts.newBuilder()
            .setPrincipal(
                Principal.newBuilder()
                    .setKeyId("key_1")
                    .setKeyspace(keyspace)
                    .setAccountId(account)
                    .addAllEffectiveScopes(texts(facts.get("scopes"))))
            .setStanding(Reason.valueOf("REASON_" + facts.get("standing").getAsString()))
            .setIsCounted(facts.get("is_counted").getAsBoolean())
            .addAllDependsOn(List.of("key:key_1", "keyspace:" + keyspace, "account:" + account));
    if (!facts.get("expires_at").isJsonNull()) {
      told.setExpireTime(Timestamp.newBuilder().setSeconds(facts.get("expires_at").getAsLong()));
    }
    for (JsonElement list : facts.getAsJsonArray("allow_lists")) {
      told.addAddressLists(AddressList.newBuilder().addAllNetworks(texts(list)));
    }
    return FetchFactsResponse.newBuilder()
        .setRevision(revision)
        .setEpoch(epoch)
        .setFacts(told)
        .build();
  }

  private static FetchFactsResponse goodResponse(long revision, String epoch) {
    JsonObject facts =
        JsonParser.parseString(
                "{keyspace: demo, account_id: acct_1, scopes: [], standing: OK, expires_at: null,"
                    + " allow_lists: [], is_counted: false}")
            .getAsJsonObject();
    return response(facts, revision, epoch);
  }

  /** A holder that has a lease from time 1 on. */
  private static Core started(java.util.function.Supplier<Instant> wall, long head) {
    Core core = new Core(10, ALL_GUARDS, () -> at(1), wall);
    long nonce = core.renewal().getNonce();
    try {
      core.take(
          SyncResponse.newBuilder()
              .setLease(
                  io.github.keyfence.v1.Lease.newBuilder()
                      .setNonce(nonce)
                      .setTtl(com.google.protobuf.Duration.newBuilder().setSeconds(1))
                      .setHeadRevision(head)
                      .setEpoch("a"))
              .build());
    } catch (StreamBrokenException broken) {
      throw new AssertionError(broken);
    }
    return core;
  }

  @TestFactory
  Stream<DynamicTest> fillsAreKeptAsTheVectorsSay() throws IOException {
    return objects(vectors("fills.json"))
        .map(one -> dynamicTest(one.get("name").getAsString(), () -> runFills(one)));
  }

  private static void runFills(JsonObject vector) {
    Memory memory = new Memory(10, ALL_GUARDS);
    Fill[] fill = {null};
    objects(vector.get("steps"))
        .forEach(
            step -> {
              switch (step.get("do").getAsString()) {
                case "start" ->
                    memory.forgetEverything(
                        step.get("head").getAsLong(), step.get("epoch").getAsString());
                case "begin" -> fill[0] = memory.beginFill();
                case "end" ->
                    assertEquals(
                        step.get("kept").getAsBoolean(),
                        memory.endFill(
                            fill[0],
                            KEY,
                            goodResponse(
                                step.get("revision").getAsLong(), step.get("epoch").getAsString())),
                        step::toString);
                case "known" ->
                    assertEquals(
                        step.get("is").getAsBoolean(), memory.find(KEY) != null, step::toString);
                case "change" -> memory.apply(changes(step));
                default -> throw new AssertionError("there is no step " + step);
              }
            });
  }

  private static RevisionChanges changes(JsonObject step) {
    SubjectChange.Builder change = SubjectChange.newBuilder();
    if (step.has("key_id")) {
      change.setKeyId(step.get("key_id").getAsString());
    } else if (step.has("keyspace")) {
      change.setKeyspace(step.get("keyspace").getAsString());
    } else if (step.has("account_id")) {
      change.setAccountId(step.get("account_id").getAsString());
    } else if (step.has("session_id")) {
      change.setSessionId(step.get("session_id").getAsString());
    }
    return RevisionChanges.newBuilder()
        .setRevision(step.get("revision").getAsLong())
        .addChanges(change)
        .build();
  }

  @Test
  void oneClockEndsALeaseWhateverTheOtherSays() {
    Lease lease = new Lease(ALL_GUARDS);
    long nonce = lease.request(new Moment(100, 1000));
    lease.grant(at(0), nonce, Duration.ofNanos(10), 1, "a", () -> {});
    assertTrue(lease.isLive(new Moment(109, 1009)));
    assertFalse(lease.isLive(new Moment(110, 1001)), "the monotonic clock says so");
    assertFalse(lease.isLive(new Moment(105, 999)), "the wall clock was set back");
    assertFalse(lease.isLive(new Moment(101, 1010)), "the machine has slept");

    // The wall clock was set back before the second grant. The first grant's must not outlast it.
    long second = lease.request(new Moment(105, 500));
    lease.grant(at(0), second, Duration.ofNanos(10), 1, "a", () -> {});
    assertFalse(lease.isLive(new Moment(106, 900)), "two grants were mixed");
  }

  @Test
  void whenTheGrantorEndsTheLeaseNothingIsRemembered() throws StreamBrokenException {
    Core core = started(Instant::now, 5);
    core.endFill(core.beginFill(KEY), KEY, goodResponse(5, "a"));
    Question question = new Question(KEY, List.of(), "", "", 0);
    assertNotNull(core.answer(question));

    core.take(SyncResponse.newBuilder().setEnd(End.getDefaultInstance()).build());

    assertNull(core.answer(question));
    assertEquals(0, core.status().keys());
  }

  @Test
  void memoryIsBoundedAndKeepsWhatIsAskedFor() {
    Memory memory = new Memory(2, ALL_GUARDS);
    memory.forgetEverything(5, "a");
    for (String key : List.of("one", "two", "three")) {
      memory.endFill(memory.beginFill(), key, goodResponse(5, "a"));
    }
    assertEquals(2, memory.counts().keys());
    assertNull(memory.find("one"), "the key that waited longest goes");
    assertNotNull(memory.find("two"));
    memory.endFill(memory.beginFill(), "four", goodResponse(5, "a"));
    assertNull(memory.find("three"), "a key goes that was not asked for lately");
    assertNotNull(memory.find("two"));
  }
}
