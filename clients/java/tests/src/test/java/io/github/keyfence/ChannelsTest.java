package io.github.keyfence;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.ConnectivityState;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Supplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** How a channel finds a server again. Pauses end when the test says so. */
final class ChannelsTest {
  private static final long PATIENCE_SECONDS = 30;

  private record Pause(Duration length, Runnable end) {}

  private final BlockingQueue<Pause> pauses = new LinkedBlockingQueue<>();

  private Channels to(int port) {
    return new Channels(
        List.of("127.0.0.1:" + port),
        null,
        false,
        // What the channel is told of a connection has been done before the connection can break.
        builder -> builder.directExecutor(),
        length -> end -> pauses.add(new Pause(length, end)));
  }

  private void endNextPause(long longestMillis) throws InterruptedException {
    Pause pause = pauses.poll(PATIENCE_SECONDS, SECONDS);
    assertNotNull(pause, "the channel does not try again by itself");
    long millis = pause.length().toMillis();
    assertTrue(
        millis >= longestMillis / 2 && millis <= longestMillis, millis + " of " + longestMillis);
    pause.end().run();
  }

  private static void awaitChange(ManagedChannel channel, ConnectivityState from)
      throws InterruptedException {
    CountDownLatch changed = new CountDownLatch(1);
    channel.notifyWhenStateChanged(from, changed::countDown);
    assertTrue(changed.await(PATIENCE_SECONDS, SECONDS), from::toString);
  }

  private void connect(ManagedChannel channel) throws InterruptedException {
    ConnectivityState state = channel.getState(true);
    while (state != ConnectivityState.READY) {
      if (state == ConnectivityState.TRANSIENT_FAILURE) {
        endNextPause(1_000);
      } else {
        awaitChange(channel, state);
      }
      state = channel.getState(true);
    }
    // A pause may have begun before the connection was made.
    while (!pauses.isEmpty()) {
      endNextPause(1_000);
    }
  }

  private static int unusedPort() throws IOException {
    try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      return socket.getLocalPort();
    }
  }

  private static Server serverAt(int port) throws IOException {
    InetSocketAddress address = new InetSocketAddress(InetAddress.getLoopbackAddress(), port);
    return NettyServerBuilder.forAddress(address, InsecureServerCredentials.create())
        .build()
        .start();
  }

  @Test
  @Timeout(4 * PATIENCE_SECONDS)
  void pausesGrowWhileAServerIsAwayAndAreShortOnceItWasThere() throws Exception {
    int port = unusedPort();
    Channels channels = to(port);
    for (Supplier<ManagedChannel> open :
        List.<Supplier<ManagedChannel>>of(channels::toAll, () -> channels.toOne(0))) {
      pauses.clear();
      ManagedChannel channel = open.get();
      try {
        channel.getState(true);
        for (long longest : new long[] {100, 200, 400, 800, 1_000, 1_000}) {
          endNextPause(longest);
        }
        Server server = serverAt(port);
        try {
          connect(channel);
        } finally {
          server.shutdownNow().awaitTermination();
        }
        awaitChange(channel, ConnectivityState.READY);
        channel.getState(true);
        endNextPause(100);
      } finally {
        channel.shutdownNow();
      }
    }
  }
}
