package io.github.keyfence.internal;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.Arrays;

/**
 * IP addresses and networks from text, without ever asking a name server. IPv4 in IPv6 counts as
 * IPv4; a zone makes a text no address.
 */
public final class Addresses {
  private static final int V4_BYTES = 4;
  private static final int V6_BYTES = 16;
  private static final int V6_GROUPS = 8;

  private Addresses() {}

  /**
   * A network, or a single address.
   *
   * @param bytes 4 or 16 of them.
   * @param bits how many bits of them count.
   */
  @SuppressWarnings("ArrayRecordComponent") // never compared
  public record Network(byte[] bytes, int bits) {
    /** Whether an address is in the network. */
    public boolean contains(byte[] address) {
      if (address == null || address.length != bytes.length) {
        return false;
      }
      int whole = bits / 8;
      int rest = bits % 8;
      return Arrays.equals(bytes, 0, whole, address, 0, whole)
          && (rest == 0 || ((bytes[whole] ^ address[whole]) & 0xff) >> (8 - rest) == 0);
    }
  }

  /**
   * Reads "192.0.2.0/24" or "192.0.2.7".
   *
   * @return null if the text is no network.
   */
  public static Network parseNetwork(String text) {
    int slash = text.indexOf('/');
    if (slash < 0) {
      byte[] address = parse(text);
      return address == null ? null : new Network(address, 8 * address.length);
    }
    byte[] address = parseRaw(text.substring(0, slash));
    int bits = number(text.substring(slash + 1), 3, 8 * V6_BYTES);
    return address == null || bits < 0 || bits > 8 * address.length
        ? null
        : new Network(address, bits);
  }

  /**
   * Reads an address.
   *
   * @return 4 or 16 bytes, or null if the text is no address.
   */
  public static byte[] parse(String text) {
    byte[] address = parseRaw(text);
    return address != null && isMapped(address)
        ? Arrays.copyOfRange(address, V6_BYTES - V4_BYTES, V6_BYTES)
        : address;
  }

  /** The address as people write it; the text itself, if it is no address. */
  public static String canonical(String text) {
    byte[] address = parse(text);
    if (address == null) {
      return text;
    }
    try {
      return InetAddress.getByAddress(address).getHostAddress();
    } catch (UnknownHostException impossible) {
      throw new AssertionError(impossible);
    }
  }

  private static boolean isMapped(byte[] address) {
    if (address.length != V6_BYTES || address[10] != -1 || address[11] != -1) {
      return false;
    }
    for (int index = 0; index < 10; index++) {
      if (address[index] != 0) {
        return false;
      }
    }
    return true;
  }

  private static byte[] parseRaw(String text) {
    return text.indexOf(':') < 0 ? parseV4(text) : parseV6(text);
  }

  private static byte[] parseV4(String text) {
    String[] parts = text.split("\\.", -1);
    if (parts.length != V4_BYTES) {
      return null;
    }
    byte[] address = new byte[V4_BYTES];
    for (int index = 0; index < V4_BYTES; index++) {
      int octet = number(parts[index], 3, 255);
      if (octet < 0) {
        return null;
      }
      address[index] = (byte) octet;
    }
    return address;
  }

  /** A decimal number without a sign or leading zeros; -1 if the text is none up to the limit. */
  private static int number(String text, int maxDigits, int limit) {
    if (text.isEmpty()
        || text.length() > maxDigits
        || (text.length() > 1 && text.charAt(0) == '0')) {
      return -1;
    }
    int value = 0;
    for (int index = 0; index < text.length(); index++) {
      char digit = text.charAt(index);
      if (digit < '0' || digit > '9') {
        return -1;
      }
      value = 10 * value + (digit - '0');
    }
    return value <= limit ? value : -1;
  }

  private static byte[] parseV6(String text) {
    int gap = text.indexOf("::");
    if (gap < 0) {
      int[] groups = groups(text);
      return groups != null && groups.length == V6_GROUPS ? bytes(groups, new int[0]) : null;
    }
    int[] before = groups(text.substring(0, gap));
    int[] after = groups(text.substring(gap + 2));
    if (before == null
        || after == null
        || before.length + after.length >= V6_GROUPS
        || text.substring(0, gap).indexOf('.') >= 0) {
      return null;
    }
    return bytes(before, after);
  }

  /** The groups of 16 bits on one side of "::"; null if a group is none. */
  private static int[] groups(String text) {
    if (text.isEmpty()) {
      return new int[0];
    }
    String[] parts = text.split(":", -1);
    if (parts.length > V6_GROUPS) {
      return null;
    }
    String last = parts[parts.length - 1];
    byte[] embedded = last.indexOf('.') < 0 ? null : parseV4(last);
    if (last.indexOf('.') >= 0 && embedded == null) {
      return null;
    }
    int hex = embedded == null ? parts.length : parts.length - 1;
    int[] groups = new int[embedded == null ? hex : hex + 2];
    for (int index = 0; index < hex; index++) {
      groups[index] = group(parts[index]);
      if (groups[index] < 0) {
        return null;
      }
    }
    if (embedded != null) {
      groups[hex] = (embedded[0] & 0xff) << 8 | (embedded[1] & 0xff);
      groups[hex + 1] = (embedded[2] & 0xff) << 8 | (embedded[3] & 0xff);
    }
    return groups;
  }

  private static int group(String text) {
    if (text.isEmpty() || text.length() > 4) {
      return -1;
    }
    int value = 0;
    for (int index = 0; index < text.length(); index++) {
      char letter = text.charAt(index);
      int digit = letter < 128 ? Character.digit(letter, 16) : -1;
      if (digit < 0) {
        return -1;
      }
      value = 16 * value + digit;
    }
    return value;
  }

  private static byte[] bytes(int[] before, int[] after) {
    byte[] address = new byte[V6_BYTES];
    for (int index = 0; index < before.length; index++) {
      put(address, index, before[index]);
    }
    for (int index = 0; index < after.length; index++) {
      put(address, V6_GROUPS - after.length + index, after[index]);
    }
    return address;
  }

  private static void put(byte[] address, int group, int value) {
    address[2 * group] = (byte) (value >> 8);
    address[2 * group + 1] = (byte) value;
  }
}
