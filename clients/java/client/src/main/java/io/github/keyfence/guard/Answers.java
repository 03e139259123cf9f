package io.github.keyfence.guard;

import io.github.keyfence.v1.HttpAnswer;
import io.github.keyfence.v1.HttpAnswers;
import io.github.keyfence.v1.HttpCredentials;
import io.github.keyfence.v1.HttpRateLimitHeaders;
import io.github.keyfence.v1.RateLimitStatus;
import io.github.keyfence.v1.Reason;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;

/** How a keyspace speaks HTTP, compiled: docs/http.md has the language. */
final class Answers {
  private static final String UNAUTHENTICATED = "unauthenticated";
  private static final String SCOPE_MISSING = "scope_missing";
  private static final String RATE_LIMITED = "rate_limited";
  private static final String PLAIN_TEXT = "text/plain";
  private static final String BODY =
      "{\"error\": \"{code}\", \"error_description\": \"{message}\"}";

  // The words are those of RFC 6750, section 3.1. The challenge of a 401 names no error: it would
  // tell a missing credential from a wrong one.
  private static final Map<String, HttpAnswer> DEFAULTS =
      Map.of(
          UNAUTHENTICATED,
          HttpAnswer.newBuilder()
              .setStatus(401)
              .setCode("invalid_token")
              .setMessage("The credential is missing or not valid")
              .setWwwAuthenticate("{scheme} realm=\"{keyspace}\"")
              .build(),
          SCOPE_MISSING,
          HttpAnswer.newBuilder()
              .setStatus(403)
              .setCode("insufficient_scope")
              .setMessage("The credential does not allow this")
              .setWwwAuthenticate("{scheme} realm=\"{keyspace}\", error=\"insufficient_scope\"")
              .build(),
          RATE_LIMITED,
          HttpAnswer.newBuilder()
              .setStatus(429)
              .setCode("rate_limited")
              .setMessage("Too many requests")
              .build());

  private record Answer(
      int status,
      String code,
      Template message,
      Template challenge,
      Function<Map<String, Object>, String> body) {}

  private final String keyspace;
  private final String contentType;
  private final String scheme;
  private final HttpCredentials credentials;
  private final HttpRateLimitHeaders limits;
  private final Map<Reason, Answer> byReason = new EnumMap<>(Reason.class);

  Answers(HttpAnswers declared, String keyspace) {
    this.keyspace = keyspace;
    contentType = or(declared.getContentType(), "application/json");
    credentials =
        declared.hasCredentials()
            ? declared.getCredentials()
            : HttpCredentials.newBuilder().setBearer(true).addHeaders("X-API-Key").build();
    scheme = credentials.getBearer() ? "Bearer" : "ApiKey";
    limits =
        declared.hasRateLimitHeaders()
            ? declared.getRateLimitHeaders()
            : HttpRateLimitHeaders.newBuilder()
                .setLimit("X-RateLimit-Limit")
                .setRemaining("X-RateLimit-Remaining")
                .setReset("X-RateLimit-Reset")
                .build();
    boolean isJson = !contentType.equals(PLAIN_TEXT);
    for (Reason reason : Reason.values()) {
      HttpAnswer parts = resolve(declared.getAnswersList(), reason);
      byReason.put(
          reason,
          new Answer(
              parts.getStatus(),
              parts.getCode(),
              Template.parse(parts.getMessage()),
              Template.parse(parts.getWwwAuthenticate()),
              Template.body(or(parts.getBody(), or(declared.getBody(), BODY)), isJson)));
    }
  }

  private static String or(String declared, String otherwise) {
    return declared.isEmpty() ? otherwise : declared;
  }

  /** Where callers may put their key. */
  HttpCredentials credentials() {
    return credentials;
  }

  /** An answer's own words, then those of the cause behind it, then ours. */
  private static HttpAnswer resolve(List<HttpAnswer> declared, Reason reason) {
    String own = reason.name().replaceFirst("REASON_", "").toLowerCase(Locale.ROOT);
    String general = own.equals(SCOPE_MISSING) || own.equals(RATE_LIMITED) ? own : UNAUTHENTICATED;
    HttpAnswer.Builder resolved = DEFAULTS.get(general).toBuilder();
    for (String cause : List.of(general, own)) {
      for (HttpAnswer one : declared) {
        if (one.getCause().equals(cause)) {
          resolved.mergeFrom(one); // proto3 takes what is not empty
        }
      }
    }
    return resolved.build();
  }

  void write(
      HttpServletRequest request,
      HttpServletResponse response,
      Reason reason,
      List<String> missing,
      List<String> required,
      Optional<RateLimitStatus> limit)
      throws IOException {
    // A reason of a later version: the key did not pass.
    Answer parts = byReason.getOrDefault(reason, byReason.get(Reason.REASON_KEY_UNKNOWN));
    Map<String, Object> placed = new HashMap<>();
    placed.put("keyspace", keyspace);
    placed.put("scheme", scheme);
    placed.put("code", parts.code);
    placed.put("status", parts.status);
    placed.put("missing_scopes", missing);
    placed.put("required_scopes", required);
    String requestId = request.getHeader("X-Request-Id");
    placed.put("request_id", requestId == null ? "" : requestId);
    placed.put("time", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
    // Of a 401 the limit would tell that there is such a key.
    if (reason == Reason.REASON_SCOPE_MISSING || reason == Reason.REASON_RATE_LIMITED) {
      limit.ifPresent(known -> placeLimit(placed, response, known));
    }
    placed.put("message", parts.message.render(placed, ", "));
    byte[] body = parts.body.apply(placed).getBytes(StandardCharsets.UTF_8);
    response.setStatus(parts.status);
    response.setContentType(contentType);
    // The answer is for this credential and this moment.
    response.setHeader("Cache-Control", "no-store");
    String challenge = parts.challenge.render(placed, " ");
    if (!challenge.isEmpty()) {
      response.setHeader("WWW-Authenticate", challenge);
    }
    response.setContentLength(body.length);
    response.getOutputStream().write(body);
  }

  private void placeLimit(
      Map<String, Object> placed, HttpServletResponse response, RateLimitStatus limit) {
    writeLimit(response, limit);
    placed.put("limit", limit.getLimit());
    placed.put("remaining", limit.getRemaining());
    placed.put("reset", limit.getResetTime().getSeconds());
    if (limit.hasRetryAfter()) {
      placed.put("retry_after", limit.getRetryAfter().getSeconds());
      response.setHeader("Retry-After", Long.toString(limit.getRetryAfter().getSeconds()));
    }
  }

  /** Sets the headers that say where a rate limit stands. */
  void writeLimit(HttpServletResponse response, RateLimitStatus limit) {
    set(response, limits.getLimit(), limit.getLimit());
    set(response, limits.getRemaining(), limit.getRemaining());
    set(response, limits.getReset(), limit.getResetTime().getSeconds());
  }

  private static void set(HttpServletResponse response, String name, long value) {
    if (!name.isEmpty()) {
      response.setHeader(name, Long.toString(value));
    }
  }
}
