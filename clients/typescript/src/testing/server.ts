/** A fake Keyfence in memory that speaks the same API over a real socket. */

import type { DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import { clone, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
  handleBidiStreamingCall,
  handleUnaryCall,
  MethodDefinition,
  ServerDuplexStream,
  ServerErrorResponse,
  ServerUnaryCall,
  ServiceDefinition,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { Client } from "../client.js";
import { millisOf } from "../convert.js";
import { DETAILS_TRAILER, writeDetails } from "../details.js";
import type { StatusName } from "../errors.js";
import { STATUS_NAMES } from "../errors.js";
import { contains, parseAddress, parseNetwork } from "../holder/addresses.js";
import type { ClientOptions } from "../options.js";
import { pathOf } from "../rpcs.js";
import { Secret } from "../secret.js";
import type {
  AuthenticateRequest,
  BatchCheckScopeRequest,
  BatchCheckScopeResponse,
  CheckScopeRequest,
  CheckScopeResponse,
  CreateKeyRequest,
  FetchKeyspacesRequest,
  Key,
  Keyspace,
  ListKeysRequest,
  Principal,
  SubjectChange,
  SyncRequest,
  SyncResponse,
  UpdateKeyRequest,
} from "../v1/index.js";
import {
  AuthorizationService,
  BatchCheckScopeResponseSchema,
  CheckScopeResponseSchema,
  create,
  fromBinary,
  KeySchema,
  KeyService,
  KeyState,
  KeyspaceSchema,
  KeyspaceService,
  PrincipalSchema,
  Reason,
  ReplicationService,
  SyncResponseSchema,
} from "../v1/index.js";

/** The only credential that the fake takes. It may do everything. */
export const TOKEN = new Secret("kf_system_fakefakefakefakefakefake");

const KEY_PREFIX = "kf_live_";
const TTL_MS = 2_000;
const EPOCH = "1";
const POLL_MS = 10;
const USUAL_PAGE = 50;

interface StoredKey {
  readonly plaintext: string;
  record: Key;
}

interface HolderStream {
  readonly tell: (message: SyncResponse["message"]) => void;
  acked: bigint;
  until: number;
}

/** An error as Keyfence answers it. */
export class FakeError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(
    name: StatusName,
    reason: string,
    message: string,
    metadata: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.code = STATUS_NAMES.indexOf(name);
    this.reason = reason;
    this.metadata = metadata;
  }
}

interface PlannedFailure {
  readonly method: string;
  readonly isAnswerLost: boolean;
  readonly error: FakeError;
  times: number;
}

type Handler = (request: never) => unknown;

/**
 * A fake Keyfence. It knows keyspaces, scopes that imply each other, keys and their lifecycle, and grants
 * leases to caches, so that revocations hold as with a real one. It knows no key formats, rate limits,
 * accounts or audit log.
 */
export class FakeServer {
  /** The server's address, for `new Client({ target })`. */
  readonly target: string;
  readonly #server: Server;
  readonly #fake: Fake;
  readonly #clients: Client[] = [];
  readonly #operator: Client;

  private constructor(server: Server, fake: Fake, port: number) {
    this.#server = server;
    this.#fake = fake;
    this.target = `127.0.0.1:${port}`;
    this.#operator = this.client();
  }

  /** Starts a fake with these keyspaces. */
  static async start(...keyspaces: readonly Keyspace[]): Promise<FakeServer> {
    const fake = new Fake(keyspaces);
    const server = new Server();
    for (const service of [AuthorizationService, KeyService, KeyspaceService, ReplicationService]) {
      server.addService(definitionOf(service), fake.implementation(service));
    }
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) {
          resolve(bound);
        } else {
          reject(error);
        }
      });
    });
    return new FakeServer(server, fake, port);
  }

  /** A client of the fake, which is closed with it. */
  client(options: ClientOptions = {}): Client {
    const client = new Client({ target: this.target, token: TOKEN, ...options });
    this.#clients.push(client);
    return client;
  }

  /** Makes a key. */
  async createKey(
    keyspace: string,
    ...scopes: readonly string[]
  ): Promise<{ apiKey: Secret; keyId: string }> {
    const { key, apiKey } = await this.#operator.keys.createKey({
      keyspace,
      accountId: "acct_1",
      scopes: [...scopes],
    });
    return { apiKey: new Secret(apiKey), keyId: key?.keyId ?? "" };
  }

  /** Revokes a key. When it returns, no cache accepts the key. */
  async revokeKey(keyId: string): Promise<void> {
    await this.#operator.keys.revokeKey({ keyId });
  }

  /** Makes keys expire by another clock, in milliseconds since the epoch. */
  setTime(now: () => number): void {
    this.#fake.now = now;
  }

  /** Makes the next calls of a method fail, for example of "CheckScope". */
  failNext(method: string, times: number, error: FakeError): void {
    this.#fake.failures.push({ method, times, error, isAnswerLost: false });
  }

  /** Carries out the next call of a method, and has its answer lost on the way. */
  loseNextAnswer(method: string): void {
    const error = new FakeError("UNAVAILABLE", "", "the connection was lost");
    this.#fake.failures.push({ method, times: 1, error, isAnswerLost: true });
  }

  /** How often a method was called. */
  calls(method: string): number {
    return this.#fake.calls.get(method) ?? 0;
  }

  /** How many uses of a key caches have reported. */
  uses(keyId: string): number {
    return this.#fake.uses.get(keyId) ?? 0;
  }

  /** Stops the fake at once, and closes its clients. */
  async close(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    this.#server.forceShutdown();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Declares a keyspace whose scopes imply nothing. */
export function keyspace(name: string, ...scopes: readonly string[]): Keyspace {
  return create(KeyspaceSchema, { name, scopes: scopes.map((scope) => ({ name: scope })) });
}

class Fake {
  now: () => number = Date.now;
  readonly failures: PlannedFailure[] = [];
  readonly calls = new Map<string, number>();
  readonly uses = new Map<string, number>();
  readonly #keyspaces = new Map<string, Keyspace>();
  readonly #byPlaintext = new Map<string, StoredKey>();
  readonly #byId = new Map<string, StoredKey>();
  readonly #byRequest = new Map<string, string>();
  readonly #holders = new Set<HolderStream>();
  #revision = 0n;

  constructor(keyspaces: readonly Keyspace[]) {
    for (const one of keyspaces) {
      this.#revision += 1n;
      this.#keyspaces.set(one.name, one);
    }
  }

  implementation(service: DescService): UntypedServiceImplementation {
    const implementation: UntypedServiceImplementation = {};
    for (const method of service.methods) {
      if (method.methodKind === "bidi_streaming") {
        const sync: handleBidiStreamingCall<SyncRequest, SyncResponse> = (stream) =>
          this.#sync(method, stream);
        implementation[method.localName] = sync;
        continue;
      }
      const handle = (this.#handlers as Record<string, Handler | undefined>)[method.localName];
      const answer: handleUnaryCall<unknown, unknown> = (call, callback) => {
        void this.#answer(method, call, handle).then(
          (response) => callback(null, response),
          (error: unknown) => callback(serviceError(error)),
        );
      };
      implementation[method.localName] = answer;
    }
    return implementation;
  }

  readonly #handlers = {
    checkScope: (request: CheckScopeRequest) => this.#check(request),
    authenticate: (request: AuthenticateRequest) => {
      const [stored, reason] = this.#judge(request.apiKey, request.keyspace, request.clientAddress);
      return {
        authenticated: reason === Reason.OK,
        reason,
        revision: this.#revision,
        ...(stored && { principal: principalOf(stored.record) }),
      };
    },
    batchCheckScope: (request: BatchCheckScopeRequest) => this.#batch(request),
    whoAmI: () => ({
      principal: {
        keyId: "key_fake",
        keyspace: "system",
        accountId: "operators",
        boundKeyspaces: ["*"],
        grantedScopes: ["*"],
      },
    }),
    createKey: (request: CreateKeyRequest) => this.#createKey(request),
    getKey: ({ keyId }: { keyId: string }) => ({ key: this.#find(keyId).record }),
    listKeys: (request: ListKeysRequest) => this.#listKeys(request),
    updateKey: (request: UpdateKeyRequest) => this.#updateKey(request),
    revokeKey: async ({ keyId }: { keyId: string }) => {
      const stored = this.#find(keyId);
      stored.record.state = KeyState.REVOKED;
      stored.record.revokeTime = timestampFromMs(this.now());
      return await this.#commitKey(stored);
    },
    applyKeyspace: async (request: { keyspace?: Keyspace; validateOnly: boolean }) => {
      const declared = request.keyspace ?? create(KeyspaceSchema);
      if (!request.validateOnly) {
        this.#keyspaces.set(declared.name, declared);
        for (const { record } of this.#byId.values()) {
          if (record.keyspace === declared.name) {
            record.effectiveScopes = this.#effective(declared.name, record.grantedScopes);
          }
        }
        await this.#commit({ subject: { case: "keyspace", value: declared.name } });
      }
      return { keyspace: declared, revision: this.#revision };
    },
    getKeyspace: ({ name }: { name: string }) => ({ keyspace: this.#requireKeyspace(name) }),
    fetchFacts: ({ apiKey }: { apiKey: string }) => {
      const stored = this.#byPlaintext.get(apiKey);
      return {
        revision: this.#revision,
        epoch: EPOCH,
        wellFormed: stored !== undefined,
        ...(stored && { facts: factsOf(stored.record) }),
      };
    },
    fetchKeyspaces: (request: FetchKeyspacesRequest) => this.#fetchKeyspaces(request),
    reportUses: ({ uses }: { uses: readonly { keyId: string; count: bigint }[] }) => {
      for (const { keyId, count } of uses) {
        this.uses.set(keyId, (this.uses.get(keyId) ?? 0) + Number(count));
      }
      return {};
    },
  };

  async #answer(
    method: DescMethod,
    call: ServerUnaryCall<unknown, unknown>,
    handle: Handler | undefined,
  ): Promise<unknown> {
    this.#admit(method, call.metadata);
    if (handle === undefined) {
      throw new FakeError("UNIMPLEMENTED", "", `the fake has no ${method.name}`);
    }
    const response = create(method.output, (await handle(call.request as never)) as Record<string, unknown>);
    this.#failAsPlanned(method, true);
    return response;
  }

  #admit(method: DescMethod, metadata: Metadata): void {
    this.calls.set(method.name, (this.calls.get(method.name) ?? 0) + 1);
    this.#failAsPlanned(method, false);
    const presented = metadata.get("authorization");
    if (presented.length === 0) {
      throw new FakeError("UNAUTHENTICATED", "CREDENTIAL_REQUIRED", "the call carries no credential");
    }
    if (presented.length > 1 || presented[0] !== `Bearer ${TOKEN.reveal()}`) {
      throw new FakeError("UNAUTHENTICATED", "CREDENTIAL_REJECTED", "the credential is not good; use TOKEN");
    }
  }

  #failAsPlanned(method: DescMethod, isAnswerLost: boolean): void {
    const planned = this.failures.find(
      (one) => one.method === method.name && one.isAnswerLost === isAnswerLost && one.times > 0,
    );
    if (planned !== undefined) {
      planned.times -= 1;
      throw planned.error;
    }
  }

  #check(request: CheckScopeRequest): CheckScopeResponse {
    if (request.requiredScopes.length === 0) {
      throw new FakeError("INVALID_ARGUMENT", "INVALID_FIELD", "required_scopes: 1 to 64 scopes");
    }
    const [stored, judged] = this.#judge(request.apiKey, request.keyspace, request.clientAddress);
    const declared = this.#keyspaces.get(stored?.record.keyspace ?? request.keyspace);
    for (const scope of declared === undefined ? [] : request.requiredScopes) {
      if (!declared?.scopes.some((one) => one.name === scope)) {
        const message = `keyspace ${declared?.name} registers no scope ${scope}`;
        throw new FakeError("INVALID_ARGUMENT", "UNKNOWN_SCOPE", message, { scope });
      }
    }
    const held = new Set(stored?.record.effectiveScopes);
    const missingScopes =
      judged === Reason.OK ? [...new Set(request.requiredScopes.filter((scope) => !held.has(scope)))] : [];
    const reason = missingScopes.length > 0 ? Reason.SCOPE_MISSING : judged;
    return create(CheckScopeResponseSchema, {
      allowed: reason === Reason.OK,
      reason,
      missingScopes,
      revision: this.#revision,
      ...(stored && { principal: principalOf(stored.record) }),
    });
  }

  #judge(apiKey: string, name: string, clientAddress: string): [StoredKey | undefined, Reason] {
    if (name !== "") {
      this.#requireKeyspace(name);
    }
    if (apiKey === "") {
      return [undefined, Reason.CREDENTIAL_MISSING];
    }
    const stored = this.#byPlaintext.get(apiKey);
    if (stored === undefined) {
      return [undefined, apiKey.startsWith(KEY_PREFIX) ? Reason.KEY_UNKNOWN : Reason.CREDENTIAL_MALFORMED];
    }
    const { record } = stored;
    if (name !== "" && record.keyspace !== name) {
      return [undefined, Reason.KEYSPACE_MISMATCH];
    }
    if (record.state === KeyState.REVOKED) {
      return [stored, Reason.KEY_REVOKED];
    }
    if (record.expireTime && this.now() >= millisOf(record.expireTime)) {
      return [stored, Reason.KEY_EXPIRED];
    }
    if (record.state === KeyState.DISABLED) {
      return [stored, Reason.KEY_DISABLED];
    }
    if (!isAllowed(record.allowedAddresses, clientAddress)) {
      return [stored, Reason.ADDRESS_NOT_ALLOWED];
    }
    return [stored, Reason.OK];
  }

  #batch(request: BatchCheckScopeRequest): BatchCheckScopeResponse {
    if (request.checks.length === 0 || request.checks.length > 256) {
      throw new FakeError("INVALID_ARGUMENT", "INVALID_FIELD", "checks: 1 to 256");
    }
    const results = request.checks.map((check) => {
      try {
        return { result: { case: "response" as const, value: this.#check(check) } };
      } catch (error) {
        if (!(error instanceof FakeError)) {
          throw error;
        }
        const { code, reason, message, metadata } = error;
        return { result: { case: "error" as const, value: { code, reason, message, metadata } } };
      }
    });
    return create(BatchCheckScopeResponseSchema, { results });
  }

  /** Makes a key, once for each request id. */
  async #createKey(request: CreateKeyRequest): Promise<object> {
    this.#requireKeyspace(request.keyspace);
    const known = request.requestId === "" ? undefined : this.#byRequest.get(request.requestId);
    if (known !== undefined) {
      const message = "the request has made a key before";
      throw new FakeError("ALREADY_EXISTS", "REQUEST_ALREADY_DONE", message, { key_id: known });
    }
    const plaintext = KEY_PREFIX + randomText();
    const record = create(KeySchema, {
      keyId: `key_${randomText()}`,
      keyspace: request.keyspace,
      accountId: request.accountId,
      displayName: request.displayName,
      displayPrefix: plaintext.slice(0, KEY_PREFIX.length + 4),
      grantedScopes: request.scopes,
      effectiveScopes: this.#effective(request.keyspace, request.scopes),
      state: KeyState.ACTIVE,
      allowedAddresses: request.allowedAddresses,
      labels: request.labels,
      createTime: timestampFromMs(this.now()),
      ...(request.expireTime && { expireTime: request.expireTime }),
    });
    const stored = { plaintext, record };
    this.#byPlaintext.set(plaintext, stored);
    this.#byId.set(record.keyId, stored);
    if (request.requestId !== "") {
      this.#byRequest.set(request.requestId, record.keyId);
    }
    return { apiKey: plaintext, ...(await this.#commitKey(stored, true)) };
  }

  /** Lists what fits the keyspace, the account and the state, in pages. */
  #listKeys(request: ListKeysRequest): object {
    const found = [...this.#byId.values()]
      .map(({ record }) => record)
      .filter(
        (record) =>
          record.keyspace === request.keyspace &&
          (request.accountId === "" || record.accountId === request.accountId) &&
          (request.state === KeyState.UNSPECIFIED || record.state === request.state),
      );
    const start = Number(request.pageToken);
    const end = start + (request.pageSize > 0 ? request.pageSize : USUAL_PAGE);
    return { keys: found.slice(start, end), nextPageToken: end < found.length ? String(end) : "" };
  }

  /** Changes the scopes, the state, the expiry or the addresses. */
  async #updateKey(request: UpdateKeyRequest): Promise<object> {
    const wanted = request.key ?? create(KeySchema);
    const stored = this.#find(wanted.keyId);
    const record = clone(KeySchema, stored.record);
    for (const path of request.updateMask?.paths ?? []) {
      switch (path) {
        case "granted_scopes":
          record.grantedScopes = wanted.grantedScopes;
          record.effectiveScopes = this.#effective(record.keyspace, wanted.grantedScopes);
          break;
        case "state":
          record.state = wanted.state;
          break;
        case "expire_time":
          if (wanted.expireTime === undefined) {
            delete record.expireTime;
          } else {
            record.expireTime = wanted.expireTime;
          }
          break;
        case "allowed_addresses":
          record.allowedAddresses = wanted.allowedAddresses;
          break;
        case "display_name":
          record.displayName = wanted.displayName;
          break;
        case "labels":
          record.labels = wanted.labels;
          break;
        default:
          throw new FakeError(
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
            `update_mask: the fake does not change ${path}`,
          );
      }
    }
    stored.record = record;
    return await this.#commitKey(stored);
  }

  async #commitKey(stored: StoredKey, created = false): Promise<{ key: Key; revision: bigint }> {
    const revision = await this.#commit({ subject: { case: "keyId", value: stored.record.keyId }, created });
    stored.record.revision = revision;
    return { key: clone(KeySchema, stored.record), revision };
  }

  /** Makes a revision, and returns when every cache has acknowledged it or has no lease any more. */
  async #commit(change: Pick<SubjectChange, "subject"> & { created?: boolean }): Promise<bigint> {
    this.#revision += 1n;
    const revision = this.#revision;
    const message = create(SyncResponseSchema, {
      message: { case: "changes", value: { revision, changes: [change] } },
    }).message;
    for (const holder of this.#holders) {
      holder.tell(message);
    }
    while ([...this.#holders].some((one) => one.acked < revision && performance.now() < one.until)) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return revision;
  }

  /** Grants leases to a cache, and tells it of changes. */
  #sync(method: DescMethod, stream: ServerDuplexStream<SyncRequest, SyncResponse>): void {
    try {
      this.#admit(method, stream.metadata);
    } catch (error) {
      stream.emit("error", serviceError(error));
      return;
    }
    const header = new Metadata();
    header.set("x-keyfence-let-in", "1");
    stream.sendMetadata(header);
    const tell = (message: SyncResponse["message"]): void => {
      if (!stream.cancelled) {
        stream.write(create(SyncResponseSchema, { message }));
      }
    };
    const holder: HolderStream = { tell, acked: 0n, until: Number.NEGATIVE_INFINITY };
    this.#holders.add(holder);
    // A cache that has left may still answer until its lease has run out. Until then changes wait for it.
    const leave = (): void => {
      setTimeout(() => this.#holders.delete(holder), Math.max(0, holder.until - performance.now())).unref();
    };
    stream.on("data", ({ message }: SyncRequest) => {
      if (message.case === "givenUp") {
        this.#holders.delete(holder);
      } else if (message.case === "renew") {
        const { nonce, appliedRevision } = message.value;
        holder.acked = appliedRevision > holder.acked ? appliedRevision : holder.acked;
        if (nonce !== 0n) {
          holder.until = performance.now() + TTL_MS;
          tell(leaseOf(nonce, this.#revision));
        }
      }
    });
    stream.on("end", () => {
      leave();
      stream.end();
    });
    stream.on("error", leave);
    stream.on("cancelled", leave);
  }

  /** One keyspace a page, so that caches have to ask for the next page. */
  #fetchKeyspaces({ pageToken }: FetchKeyspacesRequest): object {
    const left = [...this.#keyspaces.keys()].filter((name) => name > pageToken).sort();
    const [name = ""] = left;
    const found = this.#keyspaces.get(name);
    return {
      keyspaces: found === undefined ? [] : [found],
      nextPageToken: left.length > 1 ? name : "",
      revision: this.#revision,
      epoch: EPOCH,
    };
  }

  #find(keyId: string): StoredKey {
    const stored = this.#byId.get(keyId);
    if (stored === undefined) {
      throw new FakeError("NOT_FOUND", "KEY_NOT_FOUND", `there is no key ${keyId}`);
    }
    return stored;
  }

  #requireKeyspace(name: string): Keyspace {
    const found = this.#keyspaces.get(name);
    if (found === undefined) {
      throw new FakeError("NOT_FOUND", "KEYSPACE_NOT_FOUND", `there is no keyspace ${name}`);
    }
    return found;
  }

  /** The registered scopes that the granted ones come to. */
  #effective(name: string, granted: readonly string[]): string[] {
    const declared = new Map(this.#keyspaces.get(name)?.scopes.map((scope) => [scope.name, scope]));
    const held = new Set<string>();
    const hold = (scope: string): void => {
      const known = declared.get(scope);
      if (known !== undefined && !held.has(scope)) {
        held.add(scope);
        known.implies.forEach(hold);
      }
    };
    for (const grant of granted) {
      [...declared.keys()].filter((scope) => covers(grant, scope)).forEach(hold);
    }
    return [...held].sort();
  }
}

/** Whether the address is in one of the networks, if there are any. */
function isAllowed(networks: readonly string[], clientAddress: string): boolean {
  const address = parseAddress(clientAddress);
  return (
    networks.length === 0 ||
    (address !== undefined &&
      networks.some((text) => {
        const network = parseNetwork(text);
        return network !== undefined && contains(network, address);
      }))
  );
}

function covers(grant: string, scope: string): boolean {
  return grant.endsWith("*") ? scope.startsWith(grant.slice(0, -1)) : grant === scope;
}

function leaseOf(nonce: bigint, headRevision: bigint): SyncResponse["message"] {
  const ttl = { seconds: BigInt(TTL_MS / 1000), nanos: 0 };
  return create(SyncResponseSchema, {
    message: { case: "lease", value: { nonce, ttl, headRevision, epoch: EPOCH } },
  }).message;
}

function factsOf(record: Key): object {
  const standing =
    record.state === KeyState.REVOKED
      ? Reason.KEY_REVOKED
      : record.state === KeyState.DISABLED
        ? Reason.KEY_DISABLED
        : Reason.OK;
  return {
    principal: principalOf(record),
    standing,
    dependsOn: [`key:${record.keyId}`, `keyspace:${record.keyspace}`, `account:${record.accountId}`],
    addressLists: record.allowedAddresses.length > 0 ? [{ networks: record.allowedAddresses }] : [],
    ...(record.expireTime && { expireTime: record.expireTime }),
  };
}

function principalOf(record: Key): Principal {
  return create(PrincipalSchema, {
    keyId: record.keyId,
    accountId: record.accountId,
    keyspace: record.keyspace,
    keyType: record.keyType,
    environment: record.environment,
    displayName: record.displayName,
    grantedScopes: record.grantedScopes,
    effectiveScopes: record.effectiveScopes,
    effectiveScopesTruncated: record.effectiveScopesTruncated,
    displayPrefix: record.displayPrefix,
    labels: record.labels,
    ...(record.expireTime && { expireTime: record.expireTime }),
  });
}

function serviceError(error: unknown): ServerErrorResponse {
  const metadata = new Metadata();
  metadata.set("x-request-id", `fake_${randomText()}`);
  if (!(error instanceof FakeError)) {
    return Object.assign(new Error(String(error)), {
      code: status.INTERNAL,
      details: String(error),
      metadata,
    });
  }
  const { code, message, reason } = error;
  if (reason !== "") {
    metadata.set(DETAILS_TRAILER, Buffer.from(writeDetails(code, message, reason, error.metadata)));
  }
  return Object.assign(new Error(message), { code, details: message, metadata });
}

function randomText(): string {
  return crypto.randomUUID().replaceAll("-", "");
}

/** The service in the words of grpc-js. */
export function definitionOf(service: DescService): ServiceDefinition {
  const definition: Record<string, MethodDefinition<object, object>> = {};
  for (const method of service.methods) {
    definition[method.localName] = {
      path: pathOf(service, method),
      originalName: method.localName,
      requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
      responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
      requestSerialize: (value) =>
        Buffer.from(toBinary(method.input, value as MessageShape<typeof method.input>)),
      requestDeserialize: (bytes) => fromBinary(method.input, bytes),
      responseSerialize: (value) =>
        Buffer.from(toBinary(method.output, value as MessageShape<typeof method.output>)),
      responseDeserialize: (bytes) => fromBinary(method.output, bytes),
    };
  }
  return definition;
}
