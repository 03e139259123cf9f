package io.github.keyfence.guard;

import io.github.keyfence.Check;
import io.github.keyfence.KeyChecks;
import io.github.keyfence.KeyfenceClient;
import io.github.keyfence.Verdict;
import io.github.keyfence.internal.Addresses;
import io.github.keyfence.v1.GetKeyspaceRequest;
import io.github.keyfence.v1.HttpAnswers;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Function;

/**
 * Guards servlets by filters: see {@link #require}. It needs {@code jakarta.servlet-api} 5 or
 * newer, which the servlet container has.
 */
public final class HttpGuard {
  private static final System.Logger LOGGER = System.getLogger("io.github.keyfence");
  private static final String PRINCIPAL = "io.github.keyfence.principal";

  private final KeyChecks client;
  private final String keyspace;
  private final Answers answers;
  private final Function<HttpServletRequest, String> clientAddress;
  private final List<String> scopes = new CopyOnWriteArrayList<>();

  /**
   * A guard that takes the other end of the connection for the caller, and answers as RFC 6750 has
   * it.
   */
  public HttpGuard(KeyChecks client, String keyspace) {
    this(client, keyspace, HttpAnswers.getDefaultInstance());
  }

  /**
   * A guard that takes the other end of the connection for the caller.
   *
   * @param answers how the keyspace speaks HTTP: {@link #fetchAnswers} has them.
   */
  public HttpGuard(KeyChecks client, String keyspace, HttpAnswers answers) {
    this(client, keyspace, answers, ServletRequest::getRemoteAddr);
  }

  /**
   * A guard behind a proxy.
   *
   * @param clientAddress tells where a request comes from, for keys with an allow-list; empty: not
   *     known.
   * @throws IllegalArgumentException if the answers cannot be read.
   */
  public HttpGuard(
      KeyChecks client,
      String keyspace,
      HttpAnswers answers,
      Function<HttpServletRequest, String> clientAddress) {
    if (keyspace.isEmpty()) {
      throw new IllegalArgumentException(
          "keyfence: a guard needs the keyspace whose keys it accepts");
    }
    this.client = client;
    this.keyspace = keyspace;
    this.clientAddress = clientAddress;
    try {
      this.answers = new Answers(answers, keyspace);
    } catch (IllegalArgumentException broken) {
      throw new IllegalArgumentException(
          "keyfence: the answers of keyspace \"" + keyspace + "\": " + broken.getMessage(), broken);
    }
  }

  /**
   * Asks the server how a keyspace speaks HTTP. The client's token needs the scope
   * "keyspaces:read".
   */
  public static HttpAnswers fetchAnswers(KeyfenceClient client, String keyspace) {
    return client
        .keyspaces()
        .getKeyspace(GetKeyspaceRequest.newBuilder().setName(keyspace).build())
        .getKeyspace()
        .getHttp();
  }

  /** Whose key a guarded request was made with; empty outside of one. */
  public static Optional<Principal> principal(ServletRequest request) {
    return Optional.ofNullable((Principal) request.getAttribute(PRINCIPAL));
  }

  /**
   * A filter that lets requests through whose key holds all of the scopes; without scopes, any good
   * key. The key is taken off the request that the servlet gets, and {@link #principal} tells whose
   * it was.
   */
  public Filter require(String... required) {
    List<String> needed = List.of(required);
    scopes.addAll(needed);
    return (request, response, chain) ->
        admit((HttpServletRequest) request, (HttpServletResponse) response, chain, needed);
  }

  /**
   * Requires that the keyspace registers all scopes that were required so far.
   *
   * @throws IllegalStateException that names each fault.
   * @throws io.github.keyfence.KeyfenceException if Keyfence does not answer.
   */
  public void verify() {
    Policy.verify(client, keyspace, scopes, List.of());
  }

  private void admit(
      HttpServletRequest request,
      HttpServletResponse response,
      FilterChain chain,
      List<String> required)
      throws IOException, ServletException {
    Presented presented = Presented.take(request, answers.credentials());
    if (presented.reason() != Reason.REASON_OK) {
      // Decided here, so that requests without a key cost the server nothing.
      answers.write(request, response, presented.reason(), List.of(), required, Optional.empty());
      return;
    }
    Check check =
        Check.of(presented.key(), required.toArray(String[]::new))
            .inKeyspace(keyspace)
            .fromAddress(address(request));
    Verdict verdict;
    try {
      verdict = client.checkAsync(check).join();
    } catch (CompletionException failed) {
      // Never in the words of a denial: nothing was decided.
      LOGGER.log(System.Logger.Level.ERROR, "no_verdict cause={0}", failed.getCause().getMessage());
      boolean isPassing = Policy.isPassing(failed.getCause());
      response.setHeader("Cache-Control", "no-store");
      response.sendError(
          isPassing
              ? HttpServletResponse.SC_SERVICE_UNAVAILABLE
              : HttpServletResponse.SC_INTERNAL_SERVER_ERROR,
          isPassing
              ? "authorization is unavailable at the moment; try again"
              : "authorization is not set up correctly");
      return;
    }
    if (verdict instanceof Verdict.Denied denied) {
      answers.write(
          request,
          response,
          denied.reason(),
          denied.missingScopes(),
          required,
          denied.details().rateLimit());
      return;
    }
    verdict.details().rateLimit().ifPresent(limit -> answers.writeLimit(response, limit));
    presented.inner().setAttribute(PRINCIPAL, ((Verdict.Allowed) verdict).principal());
    chain.doFilter(presented.inner(), response);
  }

  private String address(HttpServletRequest request) {
    String told = clientAddress.apply(request);
    int zone = told.indexOf('%');
    return Addresses.canonical(zone < 0 ? told : told.substring(0, zone));
  }
}
