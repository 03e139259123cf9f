package io.github.keyfence.internal.holder;

import com.google.protobuf.Timestamp;
import io.github.keyfence.internal.Addresses;
import io.github.keyfence.v1.AddressList;
import io.github.keyfence.v1.FetchFactsResponse;
import io.github.keyfence.v1.KeyFacts;
import io.github.keyfence.v1.Principal;
import io.github.keyfence.v1.Reason;
import io.github.keyfence.v1.SubjectChange;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * What a holder knows of a key.
 *
 * @param standing why the key does not pass, whatever the time and the address; {@code REASON_OK}
 *     if it may.
 * @param expiresAt in nanoseconds since the epoch; {@link Long#MAX_VALUE} for never.
 * @param allowLists must each have the caller's address.
 * @param dependsOn the subjects whose change makes the facts out of date, for example "key:ID".
 * @param isCounted whether checks count against a rate limit, so that the server answers them.
 */
record Facts(
    Principal principal,
    Set<String> scopes,
    Reason standing,
    long expiresAt,
    List<List<Addresses.Network>> allowLists,
    List<String> dependsOn,
    boolean isCounted) {

  /** Reads what the server tells of a key; null if there is nothing to remember. */
  static Facts of(FetchFactsResponse response) {
    KeyFacts told = response.getFacts();
    if (!told.hasPrincipal()) {
      return null;
    }
    switch (told.getStanding()) {
      case REASON_OK, REASON_KEY_REVOKED, REASON_KEY_DISABLED, REASON_ACCOUNT_DISABLED -> {}
      default -> {
        return null; // of a later version: the server answers
      }
    }
    List<List<Addresses.Network>> allowLists = new ArrayList<>();
    for (AddressList list : told.getAddressListsList()) {
      List<Addresses.Network> networks = new ArrayList<>();
      for (String text : list.getNetworksList()) {
        Addresses.Network network = Addresses.parseNetwork(text);
        if (network == null) {
          return null;
        }
        networks.add(network);
      }
      allowLists.add(networks);
    }
    return new Facts(
        told.getPrincipal(),
        Set.copyOf(told.getPrincipal().getEffectiveScopesList()),
        told.getStanding(),
        told.hasExpireTime() ? nanos(told.getExpireTime()) : Long.MAX_VALUE,
        List.copyOf(allowLists),
        List.copyOf(told.getDependsOnList()),
        told.getIsCounted());
  }

  private static long nanos(Timestamp time) {
    try {
      return Math.addExact(Math.multiplyExact(time.getSeconds(), 1_000_000_000L), time.getNanos());
    } catch (ArithmeticException tooFar) {
      return time.getSeconds() < 0 ? Long.MIN_VALUE : Long.MAX_VALUE;
    }
  }

  /** What has changed; null if it is of a kind that this version does not know. */
  static String subjectOf(SubjectChange change) {
    return switch (change.getSubjectCase()) {
      case KEY_ID -> "key:" + change.getKeyId();
      case KEYSPACE -> "keyspace:" + change.getKeyspace();
      case ACCOUNT_ID -> "account:" + change.getAccountId();
      case SESSION_ID -> "session:" + change.getSessionId();
      case SUBJECT_NOT_SET -> null;
    };
  }

  /**
   * Why the key does not pass, scopes aside.
   *
   * @param now nanoseconds since the epoch.
   * @return {@code REASON_OK} if it passes; null if the address is none, whatever else there is to
   *     say of the key.
   */
  Reason reason(long now, String clientAddress) {
    byte[] address = null;
    if (!clientAddress.isEmpty()) {
      address = Addresses.parse(clientAddress);
      if (address == null) {
        return null;
      }
    }
    if (standing == Reason.REASON_KEY_REVOKED) {
      return standing;
    }
    if (now >= expiresAt) {
      return Reason.REASON_KEY_EXPIRED;
    }
    if (standing != Reason.REASON_OK) {
      return standing;
    }
    for (List<Addresses.Network> list : allowLists) {
      if (!contains(list, address)) {
        return Reason.REASON_ADDRESS_NOT_ALLOWED;
      }
    }
    return Reason.REASON_OK;
  }

  private static boolean contains(List<Addresses.Network> list, byte[] address) {
    for (Addresses.Network network : list) {
      if (network.contains(address)) {
        return true;
      }
    }
    return false;
  }

  /** Those of the scopes that the key lacks, each once, in the order asked. */
  List<String> missing(List<String> required) {
    List<String> missing = List.of();
    for (String scope : required) {
      if (scopes.contains(scope) || missing.contains(scope)) {
        continue;
      }
      if (missing.isEmpty()) {
        missing = new ArrayList<>();
      }
      missing.add(scope);
    }
    return missing;
  }
}
