package io.github.keyfence;

import io.github.keyfence.internal.Addresses;
import java.net.URI;
import java.net.URISyntaxException;
import java.util.Locale;
import java.util.Set;

/**
 * Where a server is, in gRPC's syntax. What cannot be shown to stay on this machine is taken for a
 * network.
 *
 * @param isLocal whether everything that is sent to the target stays on this machine: over a Unix
 *     socket or the loopback interface.
 */
record Target(String text, boolean isLocal) {
  // 128 bits out of 64 characters.
  static final int SHORTEST_TOKEN = 22;
  private static final Set<String> URL_SCHEMES = Set.of("http", "https", "grpc", "grpcs");
  private static final int MAX_PORT = 65_535;

  static Target parse(String text) {
    if (text.isEmpty() || text.chars().anyMatch(Character::isWhitespace)) {
      throw new IllegalArgumentException("keyfence: " + shown(text) + " is not a target");
    }
    int colon = text.indexOf(':');
    String scheme = colon < 0 ? "" : text.substring(0, colon);
    String rest = colon < 0 ? "" : text.substring(colon + 1);
    if (scheme.equals("unix")) {
      if (rest.isEmpty()) {
        throw new IllegalArgumentException("keyfence: target \"" + text + "\" names no socket");
      }
      return new Target(rest.startsWith("//") ? text : "unix:" + escaped(rest), true);
    }
    if (URL_SCHEMES.contains(scheme) && rest.startsWith("//")) {
      throw new IllegalArgumentException(
          "keyfence: target \""
              + text
              + "\" is a URL: give host:port; whether TLS is used, tls() and insecurePlaintext()"
              + " say");
    }
    if (scheme.equals("dns")) {
      // "dns://resolver/host:port": the name stands behind the authority.
      String address = rest;
      if (rest.startsWith("//")) {
        address = rest.substring(Math.min(rest.length(), rest.indexOf('/', 2) + 1));
      }
      return new Target(text, isLoopback(hostOf(text, address)));
    }
    if (rest.startsWith("//")) {
      return new Target(text, false); // another resolver, for example "xds:///service"
    }
    return new Target("dns:///" + text, isLoopback(hostOf(text, text)));
  }

  private static String escaped(String path) {
    try {
      return new URI(null, null, path, null).getRawPath();
    } catch (URISyntaxException broken) {
      throw new IllegalArgumentException("keyfence: the socket's path is not a path", broken);
    }
  }

  private static boolean isLoopback(String host) {
    byte[] address = Addresses.parse(host);
    if (address == null) {
      // RFC 6761, section 6.3: this name is the loopback interface, wherever it is resolved.
      return host.toLowerCase(Locale.ROOT).equals("localhost");
    }
    if (address.length == 4) {
      return address[0] == 127;
    }
    for (int index = 0; index < address.length - 1; index++) {
      if (address[index] != 0) {
        return false;
      }
    }
    return address[address.length - 1] == 1;
  }

  /** The host of "host:port", without brackets. */
  static String hostOf(String target, String address) {
    int colon = address.lastIndexOf(':');
    if (colon > 0 && address.indexOf('/') < 0 && isPort(address.substring(colon + 1))) {
      String host = address.substring(0, colon);
      boolean isBracketed = host.startsWith("[") && host.endsWith("]");
      if (isBracketed) {
        host = host.substring(1, host.length() - 1);
      }
      if (!host.isEmpty() && (isBracketed || host.indexOf(':') < 0)) {
        return host;
      }
    }
    throw new IllegalArgumentException(
        "keyfence: target "
            + shown(target)
            + " must name host and port, for example \"keyfence.example:443\", \"[::1]:50051\" or"
            + " \"unix:/run/keyfence.sock\"");
  }

  private static boolean isPort(String text) {
    return !text.isEmpty()
        && text.length() <= 5
        && text.chars().allMatch(digit -> digit >= '0' && digit <= '9')
        && Integer.parseInt(text) <= MAX_PORT;
  }

  /** The target, unless it may be a token that was given in its place. */
  private static String shown(String target) {
    return target.indexOf(':') >= 0 || target.length() < SHORTEST_TOKEN
        ? '"' + target + '"'
        : "(not shown)";
  }
}
