/** Lets only callers with a good key through to gRPC services, by what their protos declare. */

import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { createFileRegistry, fromBinary, getOption } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { Metadata, ServerInterceptor } from "@grpc/grpc-js";
import { ServerInterceptingCall, status } from "@grpc/grpc-js";
import type { Checker, Principal, Verdict } from "../checks.js";
import { KeyfenceError } from "../errors.js";
import { pathOf } from "../rpcs.js";
import { Access, access, required_scope } from "../v1/index.js";
import type { GuardLogger } from "./verify.js";
import { ask, bearer, hostOf, unregistered } from "./verify.js";

export type { GuardLogger } from "./verify.js";

/** How a guard guards. */
export interface GrpcGuardOptions {
  /** The keyspace whose keys are accepted. */
  readonly keyspace: string;
  /**
   * What the services declare: the services that protobuf-es generates, or the bytes of a descriptor set, which
   * `buf build --output api.binpb` and `protoc --include_imports --descriptor_set_out` write, whatever
   * generates the stubs.
   */
  readonly services: readonly DescService[] | Uint8Array;
  /** What every caller may call, without a key: methods ("/package.Service/Method") and whole services ("package.Service"). */
  readonly unguarded?: readonly string[];
  /**
   * Where a call comes from, for keys with an allow-list. By default the other end of the connection, which
   * behind a proxy is the proxy.
   */
  readonly clientAddress?: (metadata: Metadata, peer: string) => string;
  /** Whether to leave out of the answer which scopes a key lacks. */
  readonly hideMissingScopes?: boolean;
  /** Where the guard says what is wrong with it. By default nowhere. */
  readonly logger?: GuardLogger;
}

interface Refusal {
  readonly code: status;
  readonly details: string;
}

/** What an RPC demands. Without a scope: any good key. */
interface Rule {
  readonly scope?: string;
}

// One answer for a key that is missing, malformed, unknown, revoked, expired, disabled or used from a wrong
// address: the answer must not tell which keys exist.
const NO_GOOD_KEY: Refusal = { code: status.UNAUTHENTICATED, details: "a valid API key is required" };
const NOT_OPEN: Refusal = { code: status.PERMISSION_DENIED, details: "this method is not open to callers" };
const TOO_MANY: Refusal = { code: status.RESOURCE_EXHAUSTED, details: "too many requests" };
const AWAY: Refusal = {
  code: status.UNAVAILABLE,
  details: "authorization is unavailable at the moment; try again",
};
const BROKEN: Refusal = { code: status.INTERNAL, details: "authorization is not set up correctly" };

const principals = new WeakMap<Metadata, Principal>();

/** Whose key a guarded call was made with; undefined for a call that is not guarded. */
export function principalOf(call: { readonly metadata: Metadata }): Principal | undefined {
  return principals.get(call.metadata);
}

/**
 * Enforces what the protos of gRPC services declare: `required_scope`, or `ACCESS_ANY_CREDENTIAL`. A method
 * that declares nothing and is not unguarded is refused to all.
 *
 * The key comes as "authorization: Bearer ..." or "x-api-key"; exactly one is accepted. A stream is checked
 * when it begins, and goes on if its key is revoked later.
 */
export class GrpcGuard {
  readonly #client: Checker;
  readonly #options: GrpcGuardOptions;
  readonly #unguarded: ReadonlySet<string>;
  /** By the path of the method. Undefined: the method declares nothing that a guard understands. */
  readonly #rules = new Map<string, Rule | undefined>();

  constructor(client: Checker, options: GrpcGuardOptions) {
    if (options.keyspace === "") {
      throw new TypeError("a guard needs the keyspace whose keys it accepts");
    }
    this.#client = client;
    this.#options = options;
    this.#unguarded = new Set(options.unguarded);
    for (const service of servicesOf(options.services)) {
      for (const method of service.methods) {
        this.#rules.set(pathOf(service, method), ruleOf(method));
      }
    }
  }

  /** The interceptor, for `new Server({ interceptors: [guard.interceptor] })`. */
  readonly interceptor: ServerInterceptor = (method, call) => {
    return new ServerInterceptingCall(call, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, forward) => {
            void this.#admit(method.path, metadata, call.getPeer()).then((refusal) => {
              if (refusal === undefined) {
                forward(metadata);
              } else {
                call.sendStatus(refusal);
              }
            });
          },
        });
      },
    });
  };

  /**
   * Fails if a method of the services declares nothing, or a scope that the keyspace does not register. Call it
   * at the start, so that a mistake is found before the first caller comes.
   */
  async verify(): Promise<void> {
    const guarded = [...this.#rules].filter(([path]) => !this.#isUnguarded(path));
    const wrong = guarded
      .filter(([, rule]) => rule === undefined)
      .map(([path]) => `${path} declares no required_scope and is not unguarded`);
    const scopes = guarded.flatMap(([, rule]) => (rule?.scope === undefined ? [] : [rule.scope]));
    wrong.push(...(await unregistered(this.#client, this.#options.keyspace, scopes)));
    if (wrong.length > 0) {
      throw new Error(`the guard is not set up correctly: ${wrong.join("; ")}`);
    }
  }

  #isUnguarded(path: string): boolean {
    return this.#unguarded.has(path) || this.#unguarded.has(path.split("/")[1] ?? "");
  }

  /** Undefined: the call may go on. Never fails. */
  async #admit(path: string, metadata: Metadata, peer: string): Promise<Refusal | undefined> {
    if (this.#isUnguarded(path)) {
      return undefined;
    }
    const rule = this.#rules.get(path);
    if (rule === undefined) {
      const cause = "it declares no required_scope";
      this.#options.logger?.error("method_refused_to_all", { method: path, cause });
      return NOT_OPEN;
    }
    const apiKey = presentedKey(metadata);
    if (apiKey === undefined) {
      return NO_GOOD_KEY;
    }
    try {
      const verdict = await ask(this.#client, {
        apiKey,
        keyspace: this.#options.keyspace,
        clientAddress: this.#options.clientAddress?.(metadata, peer) ?? hostOf(peer),
        requiredScopes: rule.scope === undefined ? [] : [rule.scope],
      });
      if (verdict.allowed) {
        principals.set(metadata, verdict.principal);
        return undefined;
      }
      return this.#refusal(verdict);
    } catch (error) {
      this.#options.logger?.error("no_verdict", { method: path, cause: String(error) });
      return error instanceof KeyfenceError && error.isPassing ? AWAY : BROKEN;
    }
  }

  #refusal(verdict: Verdict): Refusal {
    switch (verdict.reason) {
      case "SCOPE_MISSING": {
        const lacks = this.#options.hideMissingScopes
          ? "lacks a required scope"
          : `lacks: ${verdict.missingScopes.join(", ")}`;
        return { code: status.PERMISSION_DENIED, details: `the API key ${lacks}` };
      }
      case "RATE_LIMITED":
        return TOO_MANY;
      default:
        return NO_GOOD_KEY;
    }
  }
}

function servicesOf(given: readonly DescService[] | Uint8Array): readonly DescService[] {
  if (!(given instanceof Uint8Array)) {
    return given;
  }
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, given));
  return [...registry].filter((one) => one.kind === "service");
}

/** Where the options say two things, the stricter counts. */
function ruleOf(method: DescMethod): Rule | undefined {
  const scope = getOption(method, required_scope);
  if (scope !== "") {
    return { scope };
  }
  return getOption(method, access) === Access.ANY_CREDENTIAL ? {} : undefined;
}

/**
 * The one key of a call; undefined if there is none, or more than one. Where a gateway and a service read
 * different ones of two credentials, one of them guards nothing.
 */
function presentedKey(metadata: Metadata): string | undefined {
  const bearers = metadata.get("authorization");
  const plain = metadata.get("x-api-key");
  if (bearers.length + plain.length !== 1) {
    return undefined;
  }
  const key = plain.length === 1 ? plain[0]?.toString() : bearer(bearers[0]?.toString() ?? "");
  return key === undefined || key === "" || key.includes(",") ? undefined : key;
}
