/** Keeps a `Core` in step with the server, from the first check on that finds no lease. */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageShape } from "@bufbuild/protobuf";
import type { ClientDuplexStream, Metadata, ServiceError } from "@grpc/grpc-js";
import { status } from "@grpc/grpc-js";
import { DETAILS_TRAILER, readDetails } from "../details.js";
import type { KeyfenceError } from "../errors.js";
import { statusName } from "../errors.js";
import type { Logger } from "../options.js";
import type { Connection, Transport } from "../transport.js";
import type {
  FetchFactsResponse,
  FetchKeyspacesResponse,
  Hello,
  SyncRequest,
  SyncResponse,
} from "../v1/index.js";
import { create, HelloSchema, HolderKind, ReplicationService, SyncRequestSchema } from "../v1/index.js";
import type { EndOfStream } from "./backoff.js";
import { Backoff, retryAfterMs } from "./backoff.js";
import { systemClock } from "./clock.js";
import type { Answer, Question } from "./core.js";
import { Core } from "./core.js";
import { everyPage } from "./pages.js";
import { reportOf } from "./uses.js";

const PROTOCOL_VERSION = 1;
const OPEN_TIMEOUT_MS = 2_000;
const KEYSPACES_TIMEOUT_MS = 5_000;
const KEYSPACES_PAUSE_MS = 1_000;
const REPORT_INTERVAL_MS = 5_000;
const REPORT_TIMEOUT_MS = 5_000;
const LAST_REPORT_MS = 1_000;
const USES_IN_REPORT = 5_000;
const REFUSALS: ReadonlySet<number> = new Set([
  status.UNAUTHENTICATED,
  status.PERMISSION_DENIED,
  status.FAILED_PRECONDITION,
]);
/** A header of the answer, which a refusal does not have. */
const LET_IN = "x-keyfence-let-in";

type Stream = ClientDuplexStream<SyncRequest, SyncResponse>;

/** Why a stream has ended. */
class StreamEnded extends Error implements EndOfStream {
  readonly isRefused: boolean;
  readonly retryAfterMs: number;
  /** The server does not speak this version of the protocol. */
  readonly isFinal: boolean;

  constructor(cause: string, { isRefused = false, retryAfterMs = 0, isFinal = false } = {}) {
    super(cause);
    this.isRefused = isRefused;
    this.retryAfterMs = retryAfterMs;
    this.isFinal = isFinal;
  }
}

/** How a cache is doing. */
export interface CacheStatus {
  /** Whether checks may be answered from memory now. */
  readonly live: boolean;
  /** How long that lasts if nothing more is heard, in milliseconds; 0 if it has ended. */
  readonly leaseLeftMs: number;
  /** The revision up to which every change is applied. */
  readonly appliedRevision: bigint;
  /** How many keys are remembered. */
  readonly keys: number;
  /** How many checks were answered from memory. */
  readonly hits: number;
  /** How often what the server told of a key was not remembered, because something had changed meanwhile. */
  readonly discardedFills: number;
  /** How often everything had to be forgotten, because the connection was lost. */
  readonly resets: number;
}

export class Holder {
  readonly #core: Core;
  readonly #transport: Transport;
  readonly #logger: Logger | undefined;
  readonly #hello: Hello = newHello();
  readonly #closing = new AbortController();
  #address = 0;
  #connection: Connection | undefined;
  #running: Promise<unknown> | undefined;
  #wakeKeyspaces: (() => void) | undefined;
  #areKeyspacesWanted = false;

  constructor(transport: Transport, maxKeys: number, logger: Logger | undefined) {
    this.#transport = transport;
    this.#logger = logger;
    this.#core = new Core(maxKeys, systemClock);
  }

  /** Answers from memory. Undefined: memory does not do. */
  answer(question: Question): Answer | undefined {
    return this.#core.answer(question);
  }

  /** Asks the server for facts, and answers from them. Undefined: the server must be asked the check itself. */
  async fill(question: Question, timeoutMs: number, signal?: AbortSignal): Promise<Answer | undefined> {
    this.#running ??= this.#run();
    const begun = this.#core.beginFill(question.apiKey);
    const connection = this.#connection;
    if (begun === undefined) {
      return undefined;
    }
    let response: FetchFactsResponse | undefined;
    try {
      if (connection !== undefined) {
        const { metadata } = await this.#transport.authorization();
        const method = ReplicationService.method.fetchFacts;
        const deadline = Date.now() + timeoutMs;
        response = await connection.send(
          { method, message: begun.request, metadata, deadline, signal },
          method.output,
        );
      }
    } catch {
      // The check itself is sent to the server, and tells what is wrong.
    }
    const isKnown = this.#core.endFill(begun.fill, question.apiKey, response);
    return isKnown ? this.#core.answer(question) : undefined;
  }

  status(): CacheStatus {
    const leaseLeftMs = this.#core.leaseLeft();
    const { memory } = this.#core;
    return {
      live: leaseLeftMs > 0,
      leaseLeftMs,
      appliedRevision: memory.applied,
      keys: memory.size,
      hits: this.#core.hits,
      discardedFills: memory.discardedFills,
      resets: memory.resets,
    };
  }

  /** Reports the last uses, gives the lease up and waits until that is done. */
  async close(): Promise<void> {
    this.#core.abandon();
    this.#closing.abort();
    this.#wakeKeyspaces?.();
    this.#running ??= Promise.resolve();
    const report = this.#report(LAST_REPORT_MS);
    await this.#running;
    // A lease may have been granted meanwhile.
    this.#core.abandon();
    await report;
  }

  async #run(): Promise<void> {
    await Promise.all([this.#keepFollowing(), this.#keepKeyspaces(), this.#keepReporting()]);
  }

  get #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  async #keepFollowing(): Promise<void> {
    const backoff = new Backoff();
    while (!this.#isClosing) {
      const { wasGranted, ended } = await this.#follow();
      if (this.#isClosing) {
        return;
      }
      if (ended.isFinal) {
        this.#logger?.info("cache_out_of_step", { cause: ended.message });
        return;
      }
      if (wasGranted) {
        backoff.reset();
      }
      const pauseMs = backoff.pauseAfter(ended);
      this.#logger?.info("cache_out_of_step", { cause: ended.message, pauseMs });
      await this.#pause(pauseMs);
    }
  }

  /**
   * Serves one stream, until it breaks. While no grantor can be reached, the lease that there is goes on
   * counting.
   */
  async #follow(): Promise<{ wasGranted: boolean; ended: StreamEnded }> {
    let wasGranted = false;
    const connection = this.#transport.connect(this.#address++);
    let stream: Stream | undefined;
    try {
      const { metadata } = await this.#transport.authorization();
      metadata.setOptions({ waitForReady: true });
      stream = connection.stream(ReplicationService.method.sync, metadata);
      // Without a listener an error would end the process. The waits below have listeners of their own.
      stream.on("error", () => undefined);
      await letIn(stream, this.#closing.signal);
      this.#core.begin();
      this.#connection = connection;
      await this.#serve(stream, () => {
        wasGranted = true;
      });
      throw new StreamEnded("the stream has ended");
    } catch (error) {
      const ended = error instanceof StreamEnded ? error : new StreamEnded(String((error as Error).message));
      return { wasGranted, ended };
    } finally {
      if (this.#connection === connection) {
        this.#connection = undefined;
      }
      stream?.cancel();
      connection.close();
    }
  }

  /** Speaks and listens on a stream, and fails when it has ended. */
  #serve(stream: Stream, granted: () => void): Promise<never> {
    const core = this.#core;
    return new Promise<never>((_, reject) => {
      let renewing: NodeJS.Timeout | undefined;
      let isAcknowledging = false;
      let isGivenUp = false;
      const end = (ended: StreamEnded): void => {
        clearTimeout(renewing);
        clearTimeout(watching);
        this.#closing.signal.removeEventListener("abort", close);
        reject(ended);
      };
      const say = (message: SyncRequest["message"]): void => {
        stream.write(create(SyncRequestSchema, { message }));
      };
      const close = (): void => {
        stream.end();
        end(new StreamEnded("the client is closed"));
      };
      const renew = (): void => {
        say({ case: "renew", value: core.renewal() });
        renewing = setTimeout(renew, core.intervalMs);
      };
      const acknowledge = (): void => {
        isAcknowledging = false;
        const renewal = isGivenUp ? undefined : core.acknowledgement();
        if (renewal !== undefined) {
          say({ case: "renew", value: renewal });
        }
      };
      // A connection can be dead for minutes before anything says so.
      const watch = (): NodeJS.Timeout =>
        setTimeout(() => end(new StreamEnded("the server does not answer")), core.patienceMs);
      let watching = watch();
      const take = (message: SyncResponse): void => {
        const { value, case: kind } = message.message;
        if (isGivenUp) {
          return;
        }
        try {
          if (core.take(message)) {
            this.#wantKeyspaces();
          }
        } catch (error) {
          end(new StreamEnded((error as Error).message));
          return;
        }
        if (kind === "lease") {
          clearTimeout(watching);
          watching = watch();
          if ((value.ttl?.seconds ?? 0n) > 0n || (value.ttl?.nanos ?? 0) > 0) {
            granted();
          }
        } else if (kind === "end") {
          // The last message of the stream. The grantor ends it then, or the watchdog does.
          isGivenUp = true;
          clearTimeout(renewing);
          say({ case: "givenUp", value: { $typeName: "keyfence.v1.GivenUp" } });
          stream.end();
          return;
        }
        if (!isAcknowledging) {
          // Changes that have come together are acknowledged together.
          isAcknowledging = true;
          setImmediate(acknowledge);
        }
      };
      stream.on("data", take);
      stream.on("error", (error: ServiceError) => end(endedBy(error)));
      stream.on("end", () => {
        end(
          new StreamEnded(
            isGivenUp ? "the server has taken the lease back" : "the server has ended the stream",
          ),
        );
      });
      this.#closing.signal.addEventListener("abort", close, { once: true });
      if (this.#isClosing) {
        close();
        return;
      }
      say({ case: "hello", value: this.#hello });
      renew();
    });
  }

  /** Learns which scopes are registered, again whenever a keyspace has changed. */
  async #keepKeyspaces(): Promise<void> {
    while (!this.#isClosing) {
      if (!this.#areKeyspacesWanted) {
        await new Promise<void>((resolve) => {
          this.#wakeKeyspaces = resolve;
        });
        continue;
      }
      this.#areKeyspacesWanted = false;
      const { memory } = this.#core;
      const fill = memory.beginFill();
      try {
        const response = await this.#fetchKeyspaces(fill.startedAt);
        if (memory.endKeyspacesFill(fill, response)) {
          continue;
        }
      } catch {
        // Until they are known, denials for missing scopes come from the server.
        memory.dropFill(fill);
      }
      this.#areKeyspacesWanted = true;
      await this.#pause(KEYSPACES_PAUSE_MS);
    }
  }

  /** One deadline for all pages, so that a server cannot go on with them forever. */
  #fetchKeyspaces(atLeastRevision: bigint): Promise<FetchKeyspacesResponse> {
    const deadline = performance.now() + KEYSPACES_TIMEOUT_MS;
    const { signal } = this.#closing;
    return everyPage((request) => {
      const timeoutMs = Math.max(1, deadline - performance.now());
      return this.#transport.call(ReplicationService.method.fetchKeyspaces, request, { timeoutMs, signal });
    }, atLeastRevision);
  }

  #wantKeyspaces(): void {
    this.#areKeyspacesWanted = true;
    this.#wakeKeyspaces?.();
  }

  async #keepReporting(): Promise<void> {
    while (!this.#isClosing) {
      await this.#pause(REPORT_INTERVAL_MS);
      if (!this.#isClosing) {
        await this.#report(REPORT_TIMEOUT_MS);
      }
    }
  }

  /**
   * Reports how keys were used. What could not be told is kept. If a report has arrived all the same it counts
   * twice: a number that is a little too high misleads less than a missing one.
   */
  async #report(timeoutMs: number): Promise<void> {
    const { memory } = this.#core;
    let left = memory.takeUses();
    while (left.length > 0) {
      try {
        await this.#transport.call(
          ReplicationService.method.reportUses,
          reportOf(left.slice(0, USES_IN_REPORT)),
          {
            timeoutMs,
          },
        );
      } catch (error) {
        const cause = (error as KeyfenceError).status ?? "UNKNOWN";
        // What the server takes for faulty once, it does again.
        if (cause !== "INVALID_ARGUMENT") {
          this.#logger?.info("uses_not_reported", { cause });
          break;
        }
      }
      left = left.slice(USES_IN_REPORT);
    }
    memory.putBackUses(left);
  }

  async #pause(milliseconds: number): Promise<void> {
    try {
      await sleep(milliseconds, undefined, { signal: this.#closing.signal, ref: false });
    } catch {
      // The client is being closed.
    }
  }
}

/** Waits until the server lets the holder in. One that can be reached may still refuse it. */
function letIn(stream: Stream, closing: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const expired = setTimeout(() => {
      const cause = `the server cannot be reached, or a proxy in between removes the header ${LET_IN}`;
      settle(new StreamEnded(cause));
    }, OPEN_TIMEOUT_MS);
    const closed = (): void => settle(new StreamEnded("the client is closed"));
    const settle = (ended?: StreamEnded): void => {
      clearTimeout(expired);
      closing.removeEventListener("abort", closed);
      if (ended === undefined) {
        resolve();
      } else {
        reject(ended);
      }
    };
    closing.addEventListener("abort", closed, { once: true });
    stream.once("metadata", (header: Metadata) => {
      if (header.get(LET_IN).length > 0) {
        settle();
      }
    });
    stream.once("error", (error: ServiceError) => settle(endedBy(error)));
    stream.once("end", () => settle(new StreamEnded("the server does not take the stream")));
  });
}

function endedBy(error: ServiceError): StreamEnded {
  const [bytes] = error.metadata?.get(DETAILS_TRAILER) ?? [];
  const { reason, metadata } = readDetails(typeof bytes === "string" ? undefined : bytes);
  return new StreamEnded(`the server does not take the stream: ${statusName(error.code)} ${reason}`.trim(), {
    isRefused: REFUSALS.has(error.code),
    retryAfterMs: retryAfterMs(metadata),
    isFinal: reason === "PROTOCOL_VERSION_UNSUPPORTED",
  });
}

/** Names the holder, by an id that it keeps on all its streams. */
function newHello(): MessageShape<typeof HelloSchema> {
  return create(HelloSchema, {
    holderId: `sdk_${randomBytes(16).toString("hex")}`,
    kind: HolderKind.SDK,
    displayName: `${process.pid} on ${hostname()}`.slice(0, 63),
    protocolVersion: PROTOCOL_VERSION,
  });
}
