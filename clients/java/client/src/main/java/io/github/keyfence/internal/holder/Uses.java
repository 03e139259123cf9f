package io.github.keyfence.internal.holder;

import com.google.protobuf.Timestamp;
import io.github.keyfence.internal.Addresses;
import io.github.keyfence.v1.ReportUsesRequest;
import io.github.keyfence.v1.ReportedUse;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** What is to be reported of checks that have passed. Memory's lock guards it. */
final class Uses {
  /** What comes beyond, while the server is away, is not reported. */
  private static final int MAX_KEY_DAYS = 100_000;

  private static final long NANOS = 1_000_000_000;

  /**
   * How a key was used on the day of the last time.
   *
   * @param lastUsed nanoseconds since the epoch.
   */
  record Use(String keyId, long lastUsed, String address, long count) {
    LocalDate day() {
      return LocalDate.ofInstant(Instant.ofEpochSecond(0, lastUsed), ZoneOffset.UTC);
    }
  }

  private record Place(String keyId, LocalDate day) {}

  private Map<Place, Use> noted = new HashMap<>();
  private long total;

  /** How often checks have passed, as far as they were noted. */
  long total() {
    return total;
  }

  void note(Use one) {
    total += one.count;
    add(one);
  }

  void add(Use one) {
    Place place = new Place(one.keyId, one.day());
    Use known = noted.get(place);
    if (known != null) {
      Use last = known.lastUsed > one.lastUsed ? known : one;
      noted.put(
          place,
          new Use(one.keyId, last.lastUsed, last.address, Math.addExact(known.count, one.count)));
    } else if (noted.size() < MAX_KEY_DAYS) {
      noted.put(place, one);
    }
  }

  List<Use> take() {
    List<Use> taken = new ArrayList<>(noted.values());
    noted = new HashMap<>();
    return taken;
  }

  static ReportUsesRequest report(List<Use> uses) {
    ReportUsesRequest.Builder report = ReportUsesRequest.newBuilder();
    for (Use one : uses) {
      report.addUses(
          ReportedUse.newBuilder()
              .setKeyId(one.keyId)
              .setDay(one.day().toString())
              .setLastUsedTime(
                  Timestamp.newBuilder()
                      .setSeconds(Math.floorDiv(one.lastUsed, NANOS))
                      .setNanos((int) Math.floorMod(one.lastUsed, NANOS)))
              .setLastUsedAddress(Addresses.canonical(one.address))
              .setCount(one.count));
    }
    return report.build();
  }
}
