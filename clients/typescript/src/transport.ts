/**
 * Calls over gRPC: connections to each address, credentials, deadlines, repetition, typed errors.
 *
 * grpc-js repeats calls and balances between the addresses of one name. It takes no list of names,
 * and no credentials on plaintext, so both are done here: the credential is a header of each call, and
 * a call that is repeated goes to the next address.
 */

import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { toBinary } from "@bufbuild/protobuf";
import type { ChannelCredentials, ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import { connectivityState, credentials, Client as GrpcClient, Metadata, status } from "@grpc/grpc-js";
import type { CallOptions } from "./checks.js";
import { DETAILS_TRAILER, readDetails } from "./details.js";
import { closedError, KeyfenceError, statusName } from "./errors.js";
import type { ClientOptions } from "./options.js";
import { DEFAULT_CHECK_TIMEOUT_MS, DEFAULT_TIMEOUT_MS, pem, timeout } from "./options.js";
import { traitsOf } from "./rpcs.js";
import { revealed } from "./secret.js";
import { grpcTarget, isLocal } from "./target.js";
import { checked, tokenSource } from "./token.js";
import { create, fromBinary } from "./v1/index.js";
import { secretsOf } from "./v1/redact.js";

const MAX_RESPONSE_BYTES = 64 << 20;
const MAX_ATTEMPTS = 4;
const FIRST_PAUSE_MS = 50;
const PAUSE_GROWTH = 3;
/** As gRPC's retryThrottling: many failures in a row end repetition until calls succeed again. */
const MOST_TRUST = 100;
const TRUST_PER_SUCCESS = 0.1;
/** UNAVAILABLE, and CANCELLED, by which a server gives up calls that it has not looked at. */
const REPEATED: ReadonlySet<number> = new Set([status.UNAVAILABLE, status.CANCELLED]);

type Unary<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> = DescMethodUnary<I, O>;

interface Attempt {
  readonly method: Unary;
  readonly message: MessageShape<DescMessage>;
  readonly metadata: Metadata;
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
}

/** A connection to one address, or to the addresses of one name. */
export class Connection {
  readonly #client: GrpcClient;

  constructor(client: GrpcClient) {
    this.#client = client;
  }

  /** Whether calls can be sent at once. If not, it begins to connect. */
  get isReady(): boolean {
    return this.#client.getChannel().getConnectivityState(true) === connectivityState.READY;
  }

  /** Sends one call, once. Fails with a ServiceError. */
  send<O extends DescMessage>(attempt: Attempt, output: O): Promise<MessageShape<O>> {
    const { method, message, metadata, deadline, signal } = attempt;
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        traitsOf(method).path,
        (request: MessageShape<DescMessage>) => bytesOf(method.input, request),
        (bytes: Buffer) => fromBinary(output, bytes),
        message,
        metadata.clone(),
        { deadline },
        (error, response) => {
          signal?.removeEventListener("abort", cancel);
          if (error !== null || response === undefined) {
            reject(error ?? new Error("there is no response"));
          } else {
            resolve(response);
          }
        },
      );
      const cancel = (): void => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** Opens a stream. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    metadata: Metadata,
  ): ClientDuplexStream<MessageShape<I>, MessageShape<O>> {
    return this.#client.makeBidiStreamRequest(
      traitsOf(method).path,
      (request: MessageShape<I>) => bytesOf(method.input, request),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      metadata,
      {},
    );
  }

  close(): void {
    this.#client.close();
  }
}

export class Transport {
  readonly #addresses: readonly string[];
  readonly #credentials: ChannelCredentials;
  readonly #isLocal: boolean;
  readonly #token: (() => Promise<string>) | undefined;
  readonly #checkTimeoutMs: number;
  readonly #timeoutMs: number;
  readonly #pool: readonly Connection[];
  #turn = 0;
  #trust = MOST_TRUST;
  #isClosed = false;

  constructor(options: ClientOptions) {
    const target = options.target ?? process.env["KEYFENCE_TARGET"] ?? "";
    if (target === "") {
      throw new TypeError("no target: pass one, or set KEYFENCE_TARGET");
    }
    this.#addresses = [target, ...(options.addresses ?? [])];
    const local = this.#addresses.map(isLocal);
    this.#isLocal = local.every(Boolean);
    this.#credentials = channelCredentials(options, this.#isLocal);
    this.#token = tokenSource(options.token ?? (process.env["KEYFENCE_TOKEN"] || undefined));
    this.#checkTimeoutMs = timeout("checkTimeoutMs", options.checkTimeoutMs, DEFAULT_CHECK_TIMEOUT_MS);
    this.#timeoutMs = timeout("timeoutMs", options.timeoutMs, DEFAULT_TIMEOUT_MS);
    this.#pool = this.#addresses.map((_, index) => this.connect(index));
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** How many addresses there are. */
  get addresses(): number {
    return this.#addresses.length;
  }

  /** The deadline of checks that name none, in milliseconds. */
  get checkTimeoutMs(): number {
    return this.#checkTimeoutMs;
  }

  /** Makes a connection of its own to an address. */
  connect(index: number): Connection {
    const address = this.#addresses[index % this.#addresses.length] ?? "";
    const client = new GrpcClient(grpcTarget(address), this.#credentials, {
      "grpc.primary_user_agent": "keyfence-typescript",
      "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }], methodConfig: [] }),
      // What a name server says must not change how calls are made.
      "grpc.service_config_disable_resolution": 1,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.max_receive_message_length": MAX_RESPONSE_BYTES,
      // A server that restarts is found again within a check's deadline.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1_000,
      // One ping in five minutes is what a gRPC server tolerates by default.
      "grpc.keepalive_time_ms": 300_000,
      "grpc.keepalive_timeout_ms": 10_000,
      // A proxy of the environment would carry what must stay on this machine.
      ...(this.#isLocal && { "grpc.enable_http_proxy": 0 }),
    });
    return new Connection(client);
  }

  /** The header that carries a credential, and the credential; for a stream, for example. */
  async authorization(
    credential?: CallOptions["credential"],
  ): Promise<{ metadata: Metadata; token: string }> {
    const metadata = new Metadata();
    const given = credential === undefined ? await this.#token?.() : checked(revealed(credential));
    if (given !== undefined) {
      metadata.set("authorization", `Bearer ${given}`);
    }
    return { metadata, token: given ?? "" };
  }

  /** Makes a call, again where that does no harm. Fails with a KeyfenceError. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    init: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    if (this.#isClosed) {
      throw closedError();
    }
    const traits = traitsOf(method);
    const otherwise = traits.isCheck ? this.#checkTimeoutMs : this.#timeoutMs;
    const deadline = Date.now() + timeout("timeoutMs", options.timeoutMs, otherwise);
    const { metadata, token } = await this.authorization(options.credential);
    const message = create(method.input, traits.takesRequestId ? withRequestId(init) : init);
    const attempt: Attempt = { method, message, metadata, deadline, signal: options.signal };
    for (let count = 1; ; count += 1) {
      if (options.signal?.aborted) {
        throw new KeyfenceError({ status: "CANCELLED", message: "the call was aborted" });
      }
      try {
        const response = await this.#next().send(attempt, method.output);
        this.#trust = Math.min(MOST_TRUST, this.#trust + TRUST_PER_SUCCESS);
        return response;
      } catch (error) {
        const pause = this.#pauseAfter(error, attempt, count);
        if (pause === undefined) {
          if (this.#isClosed) {
            throw closedError();
          }
          throw errorOf(error, options.signal, [...secretsOf(method.input, message), token]);
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  /** Ends all calls. Calls that are under way fail. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#pool) {
      connection.close();
    }
  }

  /** The connection whose turn it is among those that are ready; among all, if none is. */
  #next(): Connection {
    const turn = this.#turn++;
    const ready = this.#pool.length > 1 ? this.#pool.filter((one) => one.isReady) : [];
    const chosen = ready.length > 0 ? ready : this.#pool;
    return chosen[turn % chosen.length] as Connection;
  }

  /** How long to wait before a call is made again, in milliseconds; undefined: it is not to be. */
  #pauseAfter(error: unknown, attempt: Attempt, count: number): number | undefined {
    const code = (error as Partial<ServiceError>).code;
    if (code === undefined || !REPEATED.has(code) || attempt.signal?.aborted || this.#isClosed) {
      return undefined;
    }
    this.#trust = Math.max(0, this.#trust - 1);
    if (!traitsOf(attempt.method).isRepeatable || count >= MAX_ATTEMPTS || this.#trust <= MOST_TRUST / 2) {
      return undefined;
    }
    // Another address is tried at once.
    const round = Math.floor((count - 1) / this.#pool.length);
    const longest = count % this.#pool.length === 0 ? FIRST_PAUSE_MS * PAUSE_GROWTH ** round : 0;
    const pause = longest * (0.8 + 0.4 * Math.random());
    return Date.now() + pause < attempt.deadline ? pause : undefined;
  }
}

/** The error for a failed call. */
export function errorOf(
  error: unknown,
  signal: AbortSignal | undefined,
  secrets: readonly string[],
): KeyfenceError {
  const { code, details, metadata } = error as Partial<ServiceError>;
  if (code === undefined) {
    return new KeyfenceError({ status: "INTERNAL", message: String((error as Error).message) }, secrets);
  }
  const [bytes] = metadata?.get(DETAILS_TRAILER) ?? [];
  const told = readDetails(typeof bytes === "string" ? undefined : bytes);
  const [requestId] = metadata?.get("x-request-id") ?? [];
  const isGivenUp = code === status.CANCELLED && signal?.aborted !== true;
  return new KeyfenceError(
    {
      // The server gave the call up: it is flooded, or was stopped.
      status: isGivenUp ? "UNAVAILABLE" : statusName(code),
      message: details ?? "",
      ...told,
      requestId: requestId?.toString() ?? told.metadata["request_id"] ?? "",
    },
    secrets,
  );
}

function channelCredentials(options: ClientOptions, isLocal: boolean): ChannelCredentials {
  const { tls, insecurePlaintext } = options;
  if (tls !== undefined && insecurePlaintext) {
    throw new TypeError("tls and insecurePlaintext exclude each other");
  }
  if (tls === undefined && (isLocal || insecurePlaintext)) {
    return credentials.createInsecure();
  }
  return credentials.createSsl(pem(tls?.ca), pem(tls?.key), pem(tls?.cert));
}

function withRequestId<I>(init: I): I {
  const { requestId } = init as { requestId?: string };
  return requestId ? init : { ...init, requestId: crypto.randomUUID() };
}

function bytesOf(schema: DescMessage, message: MessageShape<DescMessage>): Buffer {
  const bytes = toBinary(schema, message);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
