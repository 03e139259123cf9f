package io.github.keyfence;

import static java.util.concurrent.TimeUnit.MINUTES;
import static java.util.concurrent.TimeUnit.NANOSECONDS;
import static java.util.concurrent.TimeUnit.SECONDS;

import io.github.keyfence.internal.ServersResolverProvider;
import io.github.keyfence.internal.holder.Backoff;
import io.grpc.ChannelCredentials;
import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.function.Function;
import java.util.function.UnaryOperator;

/** Opens channels to the servers of a client. */
final class Channels {
  private static final int MAX_RESPONSE_BYTES = 64 << 20;

  private final List<Target> targets;
  private final List<String> texts;
  private final ChannelCredentials credentials;
  private final boolean isLocal;
  private final UnaryOperator<ManagedChannelBuilder<?>> adjust;
  private final Function<Duration, Executor> after;

  Channels(
      List<String> texts,
      ChannelCredentials tls,
      boolean plaintext,
      UnaryOperator<ManagedChannelBuilder<?>> adjust) {
    this(
        texts,
        tls,
        plaintext,
        adjust,
        pause -> CompletableFuture.delayedExecutor(pause.toNanos(), NANOSECONDS));
  }

  /**
   * Like the other constructor.
   *
   * @param after what runs a task after a pause.
   */
  Channels(
      List<String> texts,
      ChannelCredentials tls,
      boolean plaintext,
      UnaryOperator<ManagedChannelBuilder<?>> adjust,
      Function<Duration, Executor> after) {
    this.texts = List.copyOf(texts);
    this.adjust = adjust;
    this.after = after;
    targets = new ArrayList<>();
    for (String text : texts) {
      if (texts.size() > 1) {
        Target.hostOf(text, text); // several servers are named as host:port each
      }
      targets.add(Target.parse(text));
    }
    isLocal = targets.stream().allMatch(Target::isLocal);
    if (tls != null) {
      credentials = tls;
    } else if (isLocal || plaintext) {
      credentials = InsecureChannelCredentials.create();
    } else {
      credentials = TlsChannelCredentials.create();
    }
  }

  /** A channel over which calls take turns among the servers. */
  ManagedChannel toAll() {
    String target =
        targets.size() == 1
            ? targets.get(0).text()
            : ServersResolverProvider.SCHEME + ":///" + String.join(",", texts);
    return open(target, "round_robin");
  }

  /** A channel to one server; the numbers go around. */
  ManagedChannel toOne(int number) {
    return open(targets.get(Math.floorMod(number, targets.size())).text(), "pick_first");
  }

  int count() {
    return targets.size();
  }

  private ManagedChannel open(String target, String loadBalancing) {
    ManagedChannelBuilder<?> builder =
        Grpc.newChannelBuilder(target, credentials)
            .userAgent("keyfence-java")
            .maxInboundMessageSize(MAX_RESPONSE_BYTES)
            // A ping in five minutes is what a gRPC server tolerates by default.
            .keepAliveTime(5, MINUTES)
            .keepAliveTimeout(10, SECONDS)
            // What a name server says must not change how calls are retried.
            .disableServiceConfigLookUp()
            .defaultServiceConfig(Rpcs.serviceConfig(loadBalancing))
            .enableRetry();
    if (isLocal) {
      // A proxy of the environment would carry what must stay on this machine.
      builder.proxyDetector(address -> null);
    }
    ManagedChannel channel = adjust.apply(builder).build();
    new Reconnection(channel, after).watch();
    return channel;
  }

  /**
   * Makes a channel try again after a second at most, so that a server that restarts is found again
   * within a check's deadline. gRPC's own pauses are of 1 to 120 s.
   */
  private static final class Reconnection {
    private final ManagedChannel channel;
    private final Function<Duration, Executor> after;
    private final Backoff backoff = new Backoff();

    Reconnection(ManagedChannel channel, Function<Duration, Executor> after) {
      this.channel = channel;
      this.after = after;
    }

    void watch() {
      ConnectivityState state = channel.getState(false);
      if (state == ConnectivityState.SHUTDOWN) {
        return;
      }
      if (state == ConnectivityState.TRANSIENT_FAILURE) {
        Duration pause = backoff.pauseAfter(false, Duration.ZERO);
        after
            .apply(pause)
            .execute(
                () -> {
                  channel.resetConnectBackoff();
                  watch();
                });
        return;
      }
      if (state == ConnectivityState.READY) {
        backoff.reset();
      }
      channel.notifyWhenStateChanged(state, this::watch);
    }
  }
}
