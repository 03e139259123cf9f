package io.github.keyfence.internal.holder;

import static java.util.concurrent.TimeUnit.NANOSECONDS;
import static java.util.concurrent.TimeUnit.SECONDS;

import io.github.keyfence.v1.FetchKeyspacesRequest;
import io.github.keyfence.v1.Hello;
import io.github.keyfence.v1.HolderKind;
import io.github.keyfence.v1.Renew;
import io.github.keyfence.v1.SyncResponse;
import io.grpc.Deadline;
import io.grpc.Status;
import java.security.SecureRandom;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Keeps a {@link Core} in step with the server, from the first check on that finds no lease. It has
 * one thread, on which everything happens that is about the stream.
 */
public final class Holder {
  private static final System.Logger LOGGER = System.getLogger("io.github.keyfence");
  private static final int PROTOCOL_VERSION = 1;
  private static final Set<Status.Code> REFUSALS =
      Set.of(
          Status.Code.UNAUTHENTICATED,
          Status.Code.PERMISSION_DENIED,
          Status.Code.FAILED_PRECONDITION);
  private static final String OTHER_VERSION = "PROTOCOL_VERSION_UNSUPPORTED";
  private static final long OPEN_SECONDS = 2;
  private static final long KEYSPACES_SECONDS = 5;
  private static final long KEYSPACES_PAUSE_SECONDS = 1;
  private static final long REPORT_SECONDS = 5;
  private static final long LAST_REPORT_SECONDS = 1;
  private static final long CLOSE_SECONDS = 5;
  // Half of what a server takes, which is well within the largest message.
  private static final int USES_IN_REPORT = 5_000;
  private static final int MAX_DISPLAY_NAME = 63;

  private final Core core;
  private final Upstream upstream;
  private final Hello hello = newHello();
  private final AtomicBoolean isStarted = new AtomicBoolean();
  private final ScheduledThreadPoolExecutor thread;
  private volatile boolean isClosed;

  // What follows belongs to the thread.
  private SyncStream stream; // null while there is none
  private boolean isFollowing;
  private boolean isToldAway; // once for each lease
  private final Backoff backoff = new Backoff();
  private Future<?> opening;
  private Future<?> renewing;
  private Future<?> watching;
  private long heardAt;
  private boolean isFetchingKeyspaces;
  private boolean areKeyspacesWanted;

  /** Makes a holder. It connects when it is first asked. */
  public Holder(int maxKeys, Upstream upstream) {
    this.core = new Core(maxKeys, Set.of(), Moment::now, Instant::now);
    this.upstream = upstream;
    this.thread =
        new ScheduledThreadPoolExecutor(
            1,
            task -> {
              Thread made = new Thread(task, "keyfence-cache");
              made.setDaemon(true);
              return made;
            });
    thread.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
    thread.setRemoveOnCancelPolicy(true);
  }

  /** Answers from memory; null if it cannot. */
  public Answer answer(Question question) {
    return core.answer(question);
  }

  /**
   * Asks the server for what it takes to answer from memory.
   *
   * @return an answer, or null if the server must be asked the check itself. It never fails.
   */
  public CompletableFuture<Answer> fill(Question question, Deadline deadline) {
    start();
    Fill fill = core.beginFill(question.apiKey());
    if (fill == null) {
      return CompletableFuture.completedFuture(null);
    }
    return upstream
        .fetchFacts(Core.request(fill, question.apiKey()), deadline)
        .handle(
            (response, failed) -> {
              if (failed != null) {
                core.dropFill(fill);
                return null;
              }
              return core.endFill(fill, question.apiKey(), response) ? core.answer(question) : null;
            });
  }

  /** How the holder is doing. */
  public HolderStatus status() {
    return core.status();
  }

  private void start() {
    if (!isClosed && isStarted.compareAndSet(false, true)) {
      execute(
          () -> {
            open();
            thread.scheduleWithFixedDelay(
                () -> report(REPORT_SECONDS), REPORT_SECONDS, REPORT_SECONDS, SECONDS);
          });
    }
  }

  /** Gives up the lease, reports the last uses and ends the stream. */
  public void close() {
    isClosed = true;
    core.abandon();
    report(LAST_REPORT_SECONDS).join();
    try {
      thread.submit(() -> end("the client is closed")).get(CLOSE_SECONDS, SECONDS);
    } catch (InterruptedException stop) {
      Thread.currentThread().interrupt();
    } catch (ExecutionException | TimeoutException failed) {
      LOGGER.log(System.Logger.Level.WARNING, "cache_not_closed cause=" + failed);
    }
    thread.shutdownNow();
    // A lease may have been granted meanwhile.
    core.abandon();
    upstream.close();
  }

  private void execute(Runnable task) {
    try {
      thread.execute(task);
    } catch (RejectedExecutionException closed) {
      return; // there is nothing left to do it for
    }
  }

  private void open() {
    if (isClosed) {
      return;
    }
    isFollowing = false;
    stream = new SyncStream(upstream.open(), this::execute, new StreamEvents());
    opening =
        thread.schedule(
            () ->
                broken(
                    "the server cannot be reached, or a proxy in between removes the header"
                        + " x-keyfence-let-in"),
            OPEN_SECONDS,
            SECONDS);
  }

  private final class StreamEvents implements SyncStream.Events {
    @Override
    public void letIn(SyncStream from) {
      if (from != stream || isFollowing || isClosed) {
        return;
      }
      isFollowing = true;
      opening.cancel(false);
      core.begin();
      stream.send(hello);
      renew();
      heardAt = System.nanoTime();
      watch();
    }

    @Override
    public void heard(SyncStream from, SyncResponse message) {
      if (from != stream || isClosed) {
        return;
      }
      if (!isFollowing) {
        broken("the server spoke without the header x-keyfence-let-in");
        return;
      }
      try {
        if (core.take(message)) {
          wantKeyspaces();
        }
      } catch (StreamBrokenException missing) {
        broken(missing.getMessage());
        return;
      }
      if (message.hasLease()) {
        heardAt = System.nanoTime();
        if (Core.grantsTime(message.getLease())) {
          isToldAway = false;
          backoff.reset();
        }
      }
      if (message.hasEnd()) {
        // The server ends the stream when it has heard this.
        SyncStream last = stream;
        last.sendGivenUp();
        thread.schedule(() -> last.cancel("given up"), OPEN_SECONDS, SECONDS);
        stream = null;
        broken("the server has taken the lease back");
        return;
      }
      Renew acknowledgement = core.acknowledgement();
      if (acknowledgement != null) {
        stream.send(acknowledgement);
      }
    }

    @Override
    public void ended(SyncStream from, SyncStream.End end) {
      if (from != stream || isClosed) {
        return;
      }
      if (end.reason().equals(OTHER_VERSION)) {
        // To try again helps when the program has been updated.
        end(end.cause());
        LOGGER.log(System.Logger.Level.WARNING, "cache_off cause=" + end.cause());
        return;
      }
      broken(end.cause(), backoff.pauseAfter(REFUSALS.contains(end.code()), end.retryAfter()));
    }
  }

  private void renew() {
    stream.send(core.renewal());
    renewing = thread.schedule(this::renew, core.interval().toNanos(), NANOSECONDS);
  }

  /** Gives up a stream that is silent: a connection can be dead for minutes before that is told. */
  private void watch() {
    long left = core.patience().toNanos() - (System.nanoTime() - heardAt);
    if (left <= 0) {
      broken("the server does not answer");
    } else {
      watching = thread.schedule(this::watch, left, NANOSECONDS);
    }
  }

  private void broken(String cause) {
    broken(cause, backoff.pauseAfter(false, Duration.ZERO));
  }

  /** Gives the stream up and opens another one after a pause. */
  private void broken(String cause, Duration pause) {
    LOGGER.log(
        isToldAway ? System.Logger.Level.DEBUG : System.Logger.Level.WARNING,
        "cache_out_of_step cause=" + cause + " pause_ms=" + pause.toMillis());
    isToldAway = true;
    end(cause);
    thread.schedule(this::open, pause.toNanos(), NANOSECONDS);
  }

  private void end(String cause) {
    for (Future<?> timer : Arrays.asList(opening, renewing, watching)) {
      if (timer != null) {
        timer.cancel(false);
      }
    }
    if (stream != null) {
      SyncStream ended = stream;
      stream = null;
      ended.cancel(cause);
    }
  }

  /**
   * Learns which scopes are registered, again whenever a keyspace has changed. Until that is known,
   * denials for missing scopes come from the server.
   */
  private void wantKeyspaces() {
    if (isFetchingKeyspaces) {
      areKeyspacesWanted = true;
      return;
    }
    isFetchingKeyspaces = true;
    Fill fill = core.beginKeyspacesFill();
    // One deadline for all pages, so that a server cannot go on with them forever.
    Deadline deadline = Deadline.after(KEYSPACES_SECONDS, SECONDS);
    Pages.fetchAll(
            request -> upstream.fetchKeyspaces(request, deadline),
            FetchKeyspacesRequest.newBuilder().setAtLeastRevision(fill.startedAt()).build())
        .whenComplete(
            (response, failed) ->
                execute(
                    () -> {
                      isFetchingKeyspaces = false;
                      boolean isKnown = false;
                      if (failed != null) {
                        core.dropFill(fill);
                      } else {
                        isKnown = core.endKeyspacesFill(fill, response);
                      }
                      boolean again = areKeyspacesWanted;
                      areKeyspacesWanted = false;
                      if (again && !isClosed) {
                        wantKeyspaces();
                      } else if (!isKnown && !isClosed) {
                        thread.schedule(this::wantKeyspaces, KEYSPACES_PAUSE_SECONDS, SECONDS);
                      }
                    }));
  }

  /**
   * Reports how keys were used. What could not be told is kept. If a report has arrived all the
   * same it counts twice: a number that is a little too high misleads less than a missing one.
   */
  private CompletableFuture<Void> report(long seconds) {
    return report(core.memory.takeUses(), Deadline.after(seconds, SECONDS));
  }

  private CompletableFuture<Void> report(List<Uses.Use> left, Deadline deadline) {
    if (left.isEmpty()) {
      return CompletableFuture.completedFuture(null);
    }
    List<Uses.Use> next = left.subList(0, Math.min(left.size(), USES_IN_REPORT));
    return upstream
        .report(Uses.report(next), deadline)
        .exceptionally(failed -> false)
        .thenCompose(
            isDone -> {
              if (isDone) {
                return report(left.subList(next.size(), left.size()), deadline);
              }
              core.memory.putBackUses(left);
              return CompletableFuture.completedFuture(null);
            });
  }

  /** Names the holder, by an id that it keeps on all its streams. */
  private static Hello newHello() {
    byte[] id = new byte[16];
    new SecureRandom().nextBytes(id);
    String host = System.getenv().getOrDefault("HOSTNAME", "java");
    String name = ProcessHandle.current().pid() + " on " + host;
    return Hello.newBuilder()
        .setHolderId("sdk_" + HexFormat.of().formatHex(id))
        .setKind(HolderKind.HOLDER_KIND_SDK)
        .setDisplayName(name.substring(0, Math.min(name.length(), MAX_DISPLAY_NAME)))
        .setProtocolVersion(PROTOCOL_VERSION)
        .build();
  }
}
