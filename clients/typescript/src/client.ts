/** The client for Node. */

import type { DescMethodUnary, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Batcher, batchResults } from "./batching.js";
import type {
  Authentication,
  BatchResult,
  CallOptions,
  Checker,
  Principal,
  ScopeCheck,
  Verdict,
} from "./checks.js";
import { NO_SCOPES, verdictOf } from "./checks.js";
import { authenticationVerdict, principalOf, scopeVerdict } from "./convert.js";
import { closedError, KeyfenceError } from "./errors.js";
import type { Answer, Question } from "./holder/core.js";
import type { CacheStatus } from "./holder/holder.js";
import { Holder } from "./holder/holder.js";
import type { ClientOptions } from "./options.js";
import { batchSize, cacheSize, timeout } from "./options.js";
import { revealed } from "./secret.js";
import { Transport } from "./transport.js";
import type { CheckScopeRequest, HttpAnswers } from "./v1/index.js";
import {
  AccountService,
  AuditService,
  AuthorizationService,
  CheckScopeRequestSchema,
  create,
  KeyService,
  KeyspaceService,
} from "./v1/index.js";

/** A service's RPCs as functions. They fail with a KeyfenceError. */
export type Rpcs<S extends DescService> = {
  readonly [Name in keyof S["method"]]: S["method"][Name] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : never;
};

const NO_ONE: readonly string[] = [];

/**
 * Talks to Keyfence. Make one, share it, and close it at the end.
 *
 * It connects at the first call, so a server that is away is an error of the calls. The connection is
 * plaintext over loopback and Unix sockets, and TLS with the system's certificate authorities everywhere
 * else.
 */
export class Client implements Checker {
  /** The RPCs that manage keys. A request without a `requestId` gets one, so that repeating it makes one key. */
  readonly keys: Rpcs<typeof KeyService>;
  /** The RPCs that declare keyspaces. */
  readonly keyspaces: Rpcs<typeof KeyspaceService>;
  /** The RPCs for accounts and their sessions. */
  readonly accounts: Rpcs<typeof AccountService>;
  /** The RPCs of the audit log. */
  readonly audit: Rpcs<typeof AuditService>;

  readonly #transport: Transport;
  readonly #holder: Holder | undefined;
  readonly #batcher: Batcher | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: ClientOptions = {}) {
    const maxKeys = cacheSize(options.cache);
    const maxChecks = batchSize(options.batching);
    this.#transport = new Transport(options);
    this.#holder = maxKeys === undefined ? undefined : new Holder(this.#transport, maxKeys, options.logger);
    this.#batcher = maxChecks === undefined ? undefined : new Batcher(this.#transport, maxChecks);
    this.keys = this.#rpcs(KeyService);
    this.keyspaces = this.#rpcs(KeyspaceService);
    this.accounts = this.#rpcs(AccountService);
    this.audit = this.#rpcs(AuditService);
  }

  /** Asks whose key it is. A key that is not good is a verdict and no error. */
  async authenticate(question: Authentication): Promise<Verdict> {
    const remembered = this.#remembered(question, NO_ONE);
    const known = remembered instanceof Promise ? await remembered : remembered;
    if (known !== undefined) {
      return known;
    }
    const { authenticate } = AuthorizationService.method;
    const request = fieldsOf(question);
    return authenticationVerdict(await this.#transport.call(authenticate, request, question));
  }

  /** Asks whether the key may do what needs all of the scopes. A denial is a verdict and no error. */
  async checkScope(question: ScopeCheck): Promise<Verdict> {
    if (question.requiredScopes.length === 0) {
      throw new TypeError(NO_SCOPES);
    }
    const remembered = question.explain ? undefined : this.#remembered(question, question.requiredScopes);
    const known = remembered instanceof Promise ? await remembered : remembered;
    if (known !== undefined) {
      return known;
    }
    if (this.#batcher !== undefined && question.credential === undefined) {
      this.#requireOpen();
      const timeoutMs = timeout("timeoutMs", question.timeoutMs, this.#transport.checkTimeoutMs);
      return await this.#batcher.check(scopeRequest(question), timeoutMs, question.signal);
    }
    const { checkScope } = AuthorizationService.method;
    return scopeVerdict(await this.#transport.call(checkScope, scopeRequest(question), question));
  }

  /** Asks up to 256 questions in one call. Each is answered by itself, in order. */
  async batchCheckScope(questions: readonly ScopeCheck[], options?: CallOptions): Promise<BatchResult[]> {
    const checks = questions.map(scopeRequest);
    const { batchCheckScope } = AuthorizationService.method;
    return batchResults(checks, await this.#transport.call(batchCheckScope, { checks }, options));
  }

  /** Asks whose token the client has, or whose the credential in the options is. */
  async whoAmI(options?: CallOptions): Promise<Principal> {
    const { principal } = await this.#transport.call(AuthorizationService.method.whoAmI, {}, options);
    if (principal === undefined) {
      throw new KeyfenceError({
        status: "INTERNAL",
        message: "the server did not say whose credential it is",
      });
    }
    return principalOf(principal);
  }

  /** How a keyspace speaks HTTP, for the guards of HTTP handlers. The token needs the scope "keyspaces:read". */
  async httpAnswers(keyspace: string, options?: CallOptions): Promise<HttpAnswers | undefined> {
    const response = await this.keyspaces.getKeyspace({ name: keyspace }, options);
    return response.keyspace?.http;
  }

  /** How the cache is doing; undefined if the client has none. */
  cacheStatus(): CacheStatus | undefined {
    return this.#holder?.status();
  }

  /**
   * Gives up the cache's lease, reports the last uses of keys, and ends the connections and the calls under
   * way. It takes a second at most. Closing twice is fine.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await this.#holder?.close();
    this.#transport.close();
  }

  #requireOpen(): void {
    if (this.#closed !== undefined) {
      throw closedError();
    }
  }

  #remembered(
    question: Authentication,
    requiredScopes: readonly string[],
  ): Verdict | undefined | Promise<Verdict | undefined> {
    this.#requireOpen();
    const holder = this.#holder;
    // Memory holds what the client's own token may know of.
    if (holder === undefined || question.credential !== undefined) {
      return undefined;
    }
    const asked: Question = {
      apiKey: revealed(question.apiKey),
      requiredScopes,
      keyspace: question.keyspace ?? "",
      clientAddress: question.clientAddress ?? "",
      atLeastRevision: question.atLeastRevision ?? 0n,
    };
    const answer = holder.answer(asked);
    if (answer !== undefined) {
      return answerVerdict(answer);
    }
    return this.#filled(holder, asked, question);
  }

  async #filled(holder: Holder, asked: Question, question: Authentication): Promise<Verdict | undefined> {
    const timeoutMs = timeout("timeoutMs", question.timeoutMs, this.#transport.checkTimeoutMs);
    const answer = await holder.fill(asked, timeoutMs, question.signal);
    return answer && answerVerdict(answer);
  }

  #rpcs<S extends DescService>(service: S): Rpcs<S> {
    const rpcs: Record<string, unknown> = {};
    for (const method of service.methods) {
      if (method.methodKind === "unary") {
        const unary = method as DescMethodUnary;
        rpcs[method.localName] = (request: MessageInitShape<typeof unary.input>, options?: CallOptions) =>
          this.#transport.call(unary, request, options);
      }
    }
    return rpcs as Rpcs<S>;
  }
}

function answerVerdict(answer: Answer): Verdict {
  const { reason, missingScopes, principal, revision } = answer;
  return verdictOf({ allowed: reason === "OK", reason, missingScopes, principal, revision });
}

function fieldsOf(question: Authentication): {
  apiKey: string;
  keyspace: string;
  clientAddress: string;
  atLeastRevision: bigint;
  cost?: number;
} {
  return {
    apiKey: revealed(question.apiKey),
    keyspace: question.keyspace ?? "",
    clientAddress: question.clientAddress ?? "",
    atLeastRevision: question.atLeastRevision ?? 0n,
    ...(question.cost !== undefined && { cost: question.cost }),
  };
}

function scopeRequest(question: ScopeCheck): CheckScopeRequest {
  return create(CheckScopeRequestSchema, {
    ...fieldsOf(question),
    requiredScopes: [...question.requiredScopes],
    explain: question.explain ?? false,
  });
}
