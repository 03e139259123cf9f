package io.github.keyfence.guard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.keyfence.Check;
import io.github.keyfence.KeyChecks;
import io.github.keyfence.KeyfenceClient;
import io.github.keyfence.Result;
import io.github.keyfence.Verdict;
import io.github.keyfence.testkit.FakeKeyfence;
import io.github.keyfence.v1.AuthorizationServiceGrpc;
import io.github.keyfence.v1.HttpAnswer;
import io.github.keyfence.v1.HttpAnswers;
import io.github.keyfence.v1.HttpCredentials;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.RateLimitStatus;
import io.github.keyfence.v1.Reason;
import io.grpc.Status;
import jakarta.servlet.Filter;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class HttpGuardTest {
  private static final Logger TOMCAT = Logger.getLogger("org.apache");

  private final FakeKeyfence keyfence =
      FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read", "vps:write"));
  private final KeyfenceClient client = keyfence.client().build();
  @TempDir private Path directory;
  private Tomcat tomcat;

  @BeforeAll
  static void beQuiet() {
    TOMCAT.setLevel(Level.SEVERE);
  }

  /** Tells what a guarded servlet sees. */
  private static final class Echo extends HttpServlet {
    private static final long serialVersionUID = 1;

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response)
        throws IOException {
      Map<String, String> seen = new TreeMap<>();
      for (String name : Collections.list(request.getHeaderNames())) {
        seen.put(name.toLowerCase(java.util.Locale.ROOT), request.getHeader(name));
      }
      seen.keySet().retainAll(List.of("authorization", "x-api-key", "cookie"));
      String caller = HttpGuard.principal(request).map(Principal::getKeyId).orElse("nobody");
      response.getWriter().print(caller + " " + seen);
    }
  }

  private void serve(Filter filter) throws Exception {
    tomcat = new Tomcat();
    tomcat.setBaseDir(directory.toString());
    tomcat.setPort(0);
    tomcat.getConnector().setProperty("address", "127.0.0.1");
    Context context = tomcat.addContext("", null);
    Tomcat.addServlet(context, "echo", new Echo()).addMapping("/*");
    FilterDef definition = new FilterDef();
    definition.setFilterName("guard");
    definition.setFilter(filter);
    context.addFilterDef(definition);
    FilterMap mapping = new FilterMap();
    mapping.setFilterName("guard");
    mapping.addURLPattern("/*");
    context.addFilterMap(mapping);
    tomcat.start();
  }

  @AfterEach
  void stop() throws Exception {
    if (tomcat != null) {
      tomcat.stop();
      tomcat.destroy();
    }
    client.close();
    keyfence.close();
  }

  private HttpResponse<String> get(String... headers) throws Exception {
    HttpRequest.Builder request =
        HttpRequest.newBuilder(
            URI.create("http://127.0.0.1:" + tomcat.getConnector().getLocalPort() + "/servers"));
    for (int index = 0; index < headers.length; index += 2) {
      request.header(headers[index], headers[index + 1]);
    }
    return HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
  }

  private static String header(HttpResponse<?> response, String name) {
    return response.headers().firstValue(name).orElse("");
  }

  @Test
  void aRequestPassesWithAGoodKeyWhichIsTakenOff() throws Exception {
    serve(new HttpGuard(client, "demo").require("vps:read"));
    FakeKeyfence.MadeKey made = keyfence.createKey("demo", "vps:read");
    String key = made.apiKey().reveal();
    for (HttpResponse<String> response :
        List.of(
            get("Authorization", "Bearer " + key, "Cookie", "a=1"),
            get("X-Api-Key", key, "Cookie", "a=1"),
            get("X-API-KEY", key, "Authorization", "bearer " + key, "Cookie", "a=1"))) {
      assertEquals(200, response.statusCode(), response.body());
      assertEquals(made.keyId() + " {cookie=a=1}", response.body());
    }
  }

  @Test
  void aDenialIsToldByTheDefaultsOfRfc6750() throws Exception {
    serve(new HttpGuard(client, "demo").require("vps:write"));
    FakeKeyfence.MadeKey poor = keyfence.createKey("demo", "vps:read");
    FakeKeyfence.MadeKey gone = keyfence.createKey("demo", "vps:write");
    HttpResponse<String> missing = get("X-API-Key", poor.apiKey().reveal());
    assertEquals(403, missing.statusCode());
    assertEquals(
        "Bearer realm=\"demo\", error=\"insufficient_scope\"", header(missing, "WWW-Authenticate"));

    HttpResponse<String> none = get();
    assertEquals(401, none.statusCode());
    assertEquals("Bearer realm=\"demo\"", header(none, "WWW-Authenticate"));
    assertEquals("no-store", header(none, "Cache-Control"));
    keyfence.revokeKey(gone.keyId());
    String key = gone.apiKey().reveal();
    String good = keyfence.createKey("demo", "vps:write").apiKey().reveal();
    for (HttpResponse<String> response :
        List.of(
            get("X-API-Key", key),
            get("Authorization", "Bearer kf_live_unknown"),
            get("Authorization", "Bearer kf_live_unknown", "X-API-Key", good),
            get("X-API-Key", good, "X-API-Key", good),
            get("Authorization", "Basic abc", "X-API-Key", good),
            get("X-API-Key", good + "," + good))) {
      assertEquals(none.statusCode(), response.statusCode());
      assertEquals(none.body(), response.body());
    }
    assertEquals(200, get("X-API-Key", good).statusCode());
  }

  @Test
  void theKeyspacesOwnAnswersAreGiven() throws Exception {
    HttpAnswers answers =
        HttpAnswers.newBuilder()
            .setCredentials(HttpCredentials.newBuilder().addHeaders("X-Key").setCookie("session"))
            .addAnswers(
                HttpAnswer.newBuilder()
                    .setCause("unauthenticated")
                    .setStatus(400)
                    .setCode("BAD_KEY")
                    .setMessage("no {{good}} key"))
            .addAnswers(
                HttpAnswer.newBuilder().setCause("key_revoked").setMessage("it was \"revoked\""))
            .addAnswers(
                HttpAnswer.newBuilder()
                    .setCause("scope_missing")
                    .setCode("NO_SCOPE")
                    .setMessage("lacks {missing_scopes} of {required_scopes}"))
            .setBody(
                "{\"error\": {\"text\": \"{message}\", \"code\": \"{code}\", \"n\": \"{status}\","
                    + " \"lacks\": \"{missing_scopes}\", \"limit\": \"{limit}\","
                    + " \"of\": [\"{keyspace}\", true, 1]}}")
            .build();
    HttpGuard guard = new HttpGuard(client, "demo", answers);
    serve(guard.require("vps:read", "vps:write"));
    FakeKeyfence.MadeKey poor = keyfence.createKey("demo", "vps:read");
    FakeKeyfence.MadeKey good = keyfence.createKey("demo", "*");
    HttpResponse<String> missing = get("X-Key", poor.apiKey().reveal());
    assertEquals(403, missing.statusCode());
    assertEquals(
        "{\"error\":{\"text\":\"lacks vps:write of vps:read, vps:write\",\"code\":\"NO_SCOPE\","
            + "\"n\":403,\"lacks\":[\"vps:write\"],\"limit\":null,\"of\":[\"demo\",true,1]}}",
        missing.body());
    assertEquals(
        "ApiKey realm=\"demo\", error=\"insufficient_scope\"", header(missing, "WWW-Authenticate"));
    HttpResponse<String> elsewhere = get("Authorization", "Bearer " + good.apiKey().reveal());
    assertEquals(400, elsewhere.statusCode());
    assertTrue(elsewhere.body().contains("\"no {good} key\""), elsewhere.body());
    HttpResponse<String> cookie = get("Cookie", "a=1; session=" + good.apiKey().reveal() + "; b=2");
    assertEquals(good.keyId() + " {cookie=a=1; b=2}", cookie.body());
    keyfence.revokeKey(good.keyId());
    HttpResponse<String> revoked = get("X-Key", good.apiKey().reveal());
    assertTrue(revoked.body().contains("it was \\\"revoked\\\""), revoked.body());
    assertTrue(header(revoked, "Content-Type").startsWith("application/json"));
  }

  /** Answers what the fake does not know: rate limits. */
  private record Limited(Verdict verdict) implements KeyChecks {
    @Override
    public CompletableFuture<Verdict> checkAsync(Check check) {
      return CompletableFuture.completedFuture(verdict);
    }

    @Override
    public List<Result> batchCheckScope(List<Check> checks) {
      return List.of();
    }
  }

  @Test
  void aRateLimitIsToldExceptWith401() throws Exception {
    RateLimitStatus.Builder limit = RateLimitStatus.newBuilder().setLimit(10);
    limit.getResetTimeBuilder().setSeconds(1_900_000_000);
    limit.getRetryAfterBuilder().setSeconds(7);
    Verdict.Details details =
        new Verdict.Details(1, Optional.of(limit.build()), Optional.empty(), false);
    Principal principal = Principal.newBuilder().setKeyId("key_1").build();
    Map<Integer, Verdict> verdicts =
        Map.of(
            200, new Verdict.Allowed(principal, details),
            429, denied(Reason.REASON_RATE_LIMITED, principal, details),
            403, denied(Reason.REASON_SCOPE_MISSING, principal, details),
            401, denied(Reason.REASON_KEY_REVOKED, principal, details));
    for (Map.Entry<Integer, Verdict> one : verdicts.entrySet()) {
      serve(new HttpGuard(new Limited(one.getValue()), "demo").require("vps:read"));
      HttpResponse<String> response = get("X-API-Key", "kf_live_something");
      assertEquals(one.getKey(), response.statusCode());
      boolean isTold =
          header(response, "X-RateLimit-Limit").equals("10")
              && header(response, "X-RateLimit-Reset").equals("1900000000");
      assertEquals(one.getKey() != 401, isTold, "status " + one.getKey());
      assertEquals(
          one.getKey() == 429 || one.getKey() == 403 ? "7" : "", header(response, "Retry-After"));
      tomcat.stop();
      tomcat.destroy();
      tomcat = null;
    }
  }

  private static Verdict denied(Reason reason, Principal principal, Verdict.Details details) {
    return new Verdict.Denied(reason, List.of(), Optional.of(principal), details);
  }

  @Test
  void withoutAVerdictARequestIsNotDenied() throws Exception {
    HttpGuard guard = new HttpGuard(client, "demo");
    serve(guard.require("vps:read"));
    String key = keyfence.createKey("demo", "vps:read").apiKey().reveal();
    keyfence.failNext(
        AuthorizationServiceGrpc.getCheckScopeMethod(),
        4,
        FakeKeyfence.error(Status.Code.UNAVAILABLE, "STORE_UNAVAILABLE", "away"));
    assertEquals(503, get("X-API-Key", key).statusCode());
    keyfence.failNext(
        AuthorizationServiceGrpc.getCheckScopeMethod(),
        1,
        FakeKeyfence.error(Status.Code.INVALID_ARGUMENT, "UNKNOWN_SCOPE", "no"));
    assertEquals(500, get("X-API-Key", key).statusCode());
    guard.verify();
    guard.require("vps:raed");
    String faults = assertThrows(IllegalStateException.class, guard::verify).getMessage();
    assertTrue(faults.contains("\"vps:raed\""), faults);
    assertFalse(faults.contains("\"vps:read\""), faults);
  }

  @Test
  void answersThatCannotBeReadAreRefused() {
    for (String body :
        List.of(
            "{\"a\": \"{b\"}",
            "{\"a\": ",
            "{} {}",
            "{'a': 1}",
            "{\"a\":".repeat(20) + "1" + "}".repeat(20))) {
      HttpAnswers answers = HttpAnswers.newBuilder().setBody(body).build();
      assertThrows(IllegalArgumentException.class, () -> new HttpGuard(client, "demo", answers));
    }
  }
}
