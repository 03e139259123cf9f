package io.github.keyfence.guard;

import io.github.keyfence.v1.HttpCredentials;
import io.github.keyfence.v1.Reason;
import jakarta.servlet.http.Cookie;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletRequestWrapper;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Enumeration;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;

/**
 * The one credential of a request, and the request without it.
 *
 * @param key the plaintext; empty unless the reason is {@code REASON_OK}.
 * @param reason {@code REASON_CREDENTIAL_MISSING} if there is none. Two that differ, a header or
 *     cookie twice, another scheme and a value with a comma are {@code
 *     REASON_CREDENTIAL_MALFORMED}: a program behind the guard might pick another one of them.
 */
record Presented(String key, Reason reason, HttpServletRequest inner) {
  private static final String AUTHORIZATION = "Authorization";
  private static final String COOKIE = "Cookie";

  @Override
  public String toString() {
    return "Presented[" + reason + "]"; // without the key
  }

  static Presented take(HttpServletRequest request, HttpCredentials places) {
    List<String> found = new ArrayList<>();
    Set<String> removed = new TreeSet<>(String.CASE_INSENSITIVE_ORDER);
    boolean isClear = true;
    if (places.getBearer()) {
      List<String> values = Collections.list(request.getHeaders(AUTHORIZATION));
      for (String value : values) {
        String key = Policy.bearer(value);
        isClear = isClear && key != null;
        found.add(key == null ? "" : key);
      }
      isClear = isClear && values.size() <= 1;
      removed.add(AUTHORIZATION);
    }
    for (String name : places.getHeadersList()) {
      List<String> values = Collections.list(request.getHeaders(name));
      found.addAll(values);
      isClear = isClear && values.size() <= 1;
      removed.add(name);
    }
    String cookie = places.getCookie();
    if (!cookie.isEmpty()) {
      List<String> values = cookies(request).filter(one -> isNamed(one, cookie)).toList();
      values.forEach(one -> found.add(one.substring(one.indexOf('=') + 1)));
      isClear = isClear && values.size() <= 1;
    }
    HttpServletRequest inner = new Inner(request, removed, cookie);
    if (found.isEmpty()) {
      return new Presented("", Reason.REASON_CREDENTIAL_MISSING, inner);
    }
    String key = found.get(0);
    for (String one : found) {
      isClear = isClear && one.equals(key) && one.indexOf(',') < 0;
    }
    return isClear
        ? new Presented(key, Reason.REASON_OK, inner)
        : new Presented("", Reason.REASON_CREDENTIAL_MALFORMED, inner);
  }

  private static Stream<String> cookies(HttpServletRequest request) {
    return Collections.list(request.getHeaders(COOKIE)).stream()
        .flatMap(header -> Stream.of(header.split(";", -1)))
        .map(String::strip)
        .filter(one -> !one.isEmpty());
  }

  private static boolean isNamed(String cookie, String name) {
    return cookie.startsWith(name + "=");
  }

  /** The request as the program behind the guard sees it. */
  private static final class Inner extends HttpServletRequestWrapper {
    private final HttpServletRequest whole;
    private final Set<String> removed;
    private final String cookie;

    Inner(HttpServletRequest whole, Set<String> removed, String cookie) {
      super(whole);
      this.whole = whole;
      this.removed = removed;
      this.cookie = cookie;
    }

    @Override
    public Enumeration<String> getHeaders(String name) {
      if (removed.contains(name)) {
        return Collections.emptyEnumeration();
      }
      if (cookie.isEmpty() || !name.toLowerCase(Locale.ROOT).equals("cookie")) {
        return super.getHeaders(name);
      }
      List<String> kept = cookies(whole).filter(one -> !isNamed(one, cookie)).toList();
      return Collections.enumeration(kept.isEmpty() ? List.of() : List.of(String.join("; ", kept)));
    }

    @Override
    public String getHeader(String name) {
      Enumeration<String> values = getHeaders(name);
      return values.hasMoreElements() ? values.nextElement() : null;
    }

    @Override
    public Enumeration<String> getHeaderNames() {
      return Collections.enumeration(
          Collections.list(super.getHeaderNames()).stream()
              .filter(name -> getHeader(name) != null)
              .toList());
    }

    @Override
    public Cookie[] getCookies() {
      Cookie[] all = super.getCookies();
      if (all == null || cookie.isEmpty()) {
        return all;
      }
      return Stream.of(all).filter(one -> !one.getName().equals(cookie)).toArray(Cookie[]::new);
    }
  }
}
