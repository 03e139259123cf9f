package io.github.keyfence.guard;

import com.google.protobuf.DescriptorProtos.MethodOptions;
import com.google.protobuf.Descriptors.MethodDescriptor;
import com.google.protobuf.ExtensionRegistry;
import com.google.protobuf.InvalidProtocolBufferException;
import io.github.keyfence.Check;
import io.github.keyfence.KeyChecks;
import io.github.keyfence.KeyfenceException;
import io.github.keyfence.Result;
import io.github.keyfence.Secret;
import io.github.keyfence.v1.Access;
import io.github.keyfence.v1.Options;
import io.grpc.protobuf.ProtoMethodDescriptorSupplier;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.TreeSet;

/** What guards have in common. */
final class Policy {
  private static final int CHECKS_IN_BATCH = 256;
  private static final ExtensionRegistry EXTENSIONS = ExtensionRegistry.newInstance();

  static {
    Options.registerAllExtensions(EXTENSIONS);
  }

  private Policy() {}

  /**
   * What an RPC demands.
   *
   * @param isOpen whether anybody may call it with the right key.
   * @param scopes the scope that it declares; none for any good key.
   */
  record Rule(boolean isOpen, List<String> scopes) {}

  private static final Rule CLOSED = new Rule(false, List.of());

  /** Reads a method's options. Where they say two things, the stricter counts. */
  static Rule ruleOf(io.grpc.MethodDescriptor<?, ?> method) {
    if (!(method.getSchemaDescriptor() instanceof ProtoMethodDescriptorSupplier supplier)) {
      return CLOSED;
    }
    MethodDescriptor described = supplier.getMethodDescriptor();
    MethodOptions options;
    try {
      // Parsed anew, for descriptors that were made without the extensions.
      options = MethodOptions.parseFrom(described.getOptions().toByteString(), EXTENSIONS);
    } catch (InvalidProtocolBufferException broken) {
      return CLOSED;
    }
    String scope = options.getExtension(Options.requiredScope);
    if (!scope.isEmpty()) {
      return new Rule(true, List.of(scope));
    }
    return new Rule(
        options.getExtension(Options.access) == Access.ACCESS_ANY_CREDENTIAL, List.of());
  }

  /** The key of "Bearer KEY"; null if the header is another. */
  static String bearer(String header) {
    int space = header.indexOf(' ');
    if (space < 0 || !header.substring(0, space).toLowerCase(Locale.ROOT).equals("bearer")) {
      return null;
    }
    String key = header.substring(space + 1).strip();
    return key.isEmpty() ? null : key;
  }

  /** Whether an error may be gone when the call is made again. */
  static boolean isPassing(Throwable failed) {
    return failed instanceof KeyfenceException.Unavailable;
  }

  /**
   * Requires that a keyspace registers scopes. It asks about no key, which needs no more than the
   * scope "keys:check": the server looks at the scopes first.
   *
   * @throws IllegalStateException that names each fault.
   */
  static void verify(
      KeyChecks client, String keyspace, Collection<String> required, List<String> faults) {
    List<String> scopes = List.copyOf(new TreeSet<>(required));
    List<String> wrong = new ArrayList<>(faults);
    for (int from = 0; from < scopes.size(); from += CHECKS_IN_BATCH) {
      List<String> part = scopes.subList(from, Math.min(scopes.size(), from + CHECKS_IN_BATCH));
      List<Check> checks = new ArrayList<>();
      for (String scope : part) {
        checks.add(Check.of(Secret.of(""), scope).inKeyspace(keyspace));
      }
      List<Result> results = client.batchCheckScope(checks);
      for (int index = 0; index < results.size(); index++) {
        if (results.get(index) instanceof Result.Failed failed) {
          wrong.add("scope \"" + part.get(index) + "\": " + failed.error().getMessage());
        }
      }
    }
    if (!wrong.isEmpty()) {
      throw new IllegalStateException(
          "keyfence: the guard of keyspace \"" + keyspace + "\": " + String.join("; ", wrong));
    }
  }
}
