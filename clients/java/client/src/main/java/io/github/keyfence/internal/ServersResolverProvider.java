package io.github.keyfence.internal;

import io.grpc.Attributes;
import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.Status;
import io.grpc.StatusOr;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executor;

/**
 * Resolves "keyfence-servers:///host:port,host:port" to all of these servers. gRPC finds it by
 * {@link java.util.ServiceLoader}.
 */
public final class ServersResolverProvider extends NameResolverProvider {
  /** The scheme of such targets. */
  public static final String SCHEME = "keyfence-servers";

  private static final int PRIORITY = 5; // what gRPC's own providers have

  @Override
  protected boolean isAvailable() {
    return true;
  }

  @Override
  protected int priority() {
    return PRIORITY;
  }

  @Override
  public String getDefaultScheme() {
    return SCHEME;
  }

  @Override
  public NameResolver newNameResolver(URI target, NameResolver.Args arguments) {
    if (!target.getScheme().equals(SCHEME)) {
      return null;
    }
    List<String> addresses = List.of(target.getPath().substring(1).split(",", -1));
    return new ServersResolver(addresses, arguments);
  }

  private static final class ServersResolver extends NameResolver {
    private final List<String> addresses;
    private final Args arguments;
    private Listener2 listener;

    ServersResolver(List<String> addresses, Args arguments) {
      this.addresses = addresses;
      this.arguments = arguments;
    }

    @Override
    public String getServiceAuthority() {
      return addresses.get(0);
    }

    @Override
    public void start(Listener2 heard) {
      listener = heard;
      refresh();
    }

    @Override
    public void refresh() {
      Executor executor = arguments.getOffloadExecutor();
      Runnable resolve = () -> listener.onResult(resolve());
      if (executor == null) {
        resolve.run();
      } else {
        executor.execute(resolve);
      }
    }

    @Override
    public void shutdown() {}

    private ResolutionResult resolve() {
      List<EquivalentAddressGroup> found = new ArrayList<>();
      UnknownHostException unknown = null;
      for (String address : addresses) {
        int colon = address.lastIndexOf(':');
        String host = address.substring(0, colon).replace("[", "").replace("]", "");
        int port = Integer.parseInt(address.substring(colon + 1));
        try {
          for (InetAddress one : InetAddress.getAllByName(host)) {
            // Each server shows a certificate for its own name.
            found.add(
                new EquivalentAddressGroup(
                    new InetSocketAddress(one, port),
                    Attributes.newBuilder()
                        .set(EquivalentAddressGroup.ATTR_AUTHORITY_OVERRIDE, address)
                        .build()));
          }
        } catch (UnknownHostException failed) {
          unknown = failed;
        }
      }
      return ResolutionResult.newBuilder()
          .setAddressesOrError(
              found.isEmpty()
                  ? StatusOr.fromStatus(
                      Status.UNAVAILABLE.withDescription("no server is known").withCause(unknown))
                  : StatusOr.fromValue(found))
          .build();
    }
  }
}
