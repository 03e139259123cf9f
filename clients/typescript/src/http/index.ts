/**
 * Lets only requests with a good key through to HTTP handlers, in the words of the keyspace: Fetch
 * handlers, Express and Hono. It runs wherever `fetch` does.
 */

import type { Checker, Principal } from "../checks.js";
import { KeyfenceError } from "../errors.js";
import type { GuardLogger } from "../guard/verify.js";
import { ask, bearer, hostOf, unregistered } from "../guard/verify.js";
import type { HttpAnswer, HttpAnswersLike, Places } from "./answers.js";
import { Answers, undecided } from "./answers.js";

export type { GuardLogger } from "../guard/verify.js";
export type { HttpAnswerLike, HttpAnswersLike } from "./answers.js";

/** A request of Node's, as Express hands it on. */
export interface NodeRequest {
  headers: Record<string, string | string[] | undefined>;
  headersDistinct: Record<string, string[] | undefined>;
  rawHeaders: string[];
  readonly socket: { readonly remoteAddress?: string | undefined };
}

/** A response of Node's. */
export interface NodeResponse {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body: string): unknown;
}

/** The context of Hono. */
export interface HonoContext {
  readonly req: { raw: Request };
  res: Response;
}

/** How a guard guards. */
export interface HttpGuardOptions {
  /** The keyspace whose keys are accepted. */
  readonly keyspace: string;
  /** How the keyspace speaks HTTP: `await client.httpAnswers(keyspace)`. By default as RFC 6750 has it. */
  readonly answers?: HttpAnswersLike | undefined;
  /**
   * Where a request comes from, for keys with an allow-list. By default, for Express, the other end of the
   * connection, which behind a proxy is the proxy; elsewhere it is not known.
   */
  readonly clientAddress?: (request: Request | NodeRequest) => string | undefined;
  /** Where the guard says what is wrong with it. By default nowhere. */
  readonly logger?: GuardLogger;
}

/** What was presented, and what is left of the headers without it. */
interface Presented {
  readonly keys: readonly string[];
  readonly isClear: boolean;
}

type Admission =
  | {
      readonly principal: Principal;
      readonly headers: Readonly<Record<string, string>>;
      readonly answer?: undefined;
    }
  | { readonly answer: HttpAnswer };

const principals = new WeakMap<object, Principal>();

/**
 * Whose key a guarded request came with: the request that the handler was given, for Hono `c.req.raw`.
 * Undefined: the request is not guarded.
 */
export function principalOf(request: object): Principal | undefined {
  return principals.get(request);
}

/** Guards HTTP handlers. The key is taken off the request that they get. */
export class HttpGuard {
  readonly #client: Checker;
  readonly #options: HttpGuardOptions;
  readonly #answers: Answers;
  readonly #scopes = new Set<string>();

  constructor(client: Checker, options: HttpGuardOptions) {
    if (options.keyspace === "") {
      throw new TypeError("a guard needs the keyspace whose keys it accepts");
    }
    this.#client = client;
    this.#options = options;
    this.#answers = new Answers(options.answers, options.keyspace);
  }

  /** Guards a handler of `fetch` requests that needs all of the scopes; with none, any good key. */
  fetch<More extends unknown[]>(
    scopes: readonly string[],
    handler: (request: Request, ...more: More) => Response | Promise<Response>,
  ): (request: Request, ...more: More) => Promise<Response> {
    this.#note(scopes);
    return async (request, ...more) => {
      const admission = await this.#admitFetch(request, scopes);
      if (admission.answer !== undefined) {
        return responseOf(admission.answer);
      }
      const inner = this.#without(request);
      principals.set(inner, admission.principal);
      return withHeaders(await handler(inner, ...more), admission.headers);
    };
  }

  /** A middleware for Express, or for whatever else calls `(request, response, next)`. */
  express(
    ...scopes: readonly string[]
  ): (request: NodeRequest, response: NodeResponse, next: (error?: unknown) => void) => void {
    this.#note(scopes);
    return (request, response, next) => {
      const { places } = this.#answers;
      const values = (name: string): readonly string[] => request.headersDistinct[name.toLowerCase()] ?? [];
      const address = this.#options.clientAddress?.(request) ?? hostOf(request.socket.remoteAddress ?? "");
      void this.#admit(presented(places, values), scopes, address, values("x-request-id")[0]).then(
        (admission) => {
          if (admission.answer !== undefined) {
            const { status, headers, body } = admission.answer;
            response.statusCode = status;
            setHeaders(response, headers);
            response.end(body);
            return;
          }
          takeOff(request, places);
          principals.set(request, admission.principal);
          setHeaders(response, admission.headers);
          next();
        },
        next,
      );
    };
  }

  /** A middleware for Hono. */
  hono(
    ...scopes: readonly string[]
  ): (context: HonoContext, next: () => Promise<void>) => Promise<Response | undefined> {
    this.#note(scopes);
    return async (context, next) => {
      const admission = await this.#admitFetch(context.req.raw, scopes);
      if (admission.answer !== undefined) {
        return responseOf(admission.answer);
      }
      context.req.raw = this.#without(context.req.raw);
      principals.set(context.req.raw, admission.principal);
      await next();
      if (Object.keys(admission.headers).length > 0) {
        context.res = withHeaders(context.res, admission.headers);
      }
      return undefined;
    };
  }

  /** Fails if a scope that was named so far is none that the keyspace registers. Call it at the start. */
  async verify(): Promise<void> {
    const wrong = await unregistered(this.#client, this.#options.keyspace, this.#scopes);
    if (wrong.length > 0) {
      throw new Error(`the guard is not set up correctly: ${wrong.join("; ")}`);
    }
  }

  #note(scopes: readonly string[]): void {
    for (const scope of scopes) {
      this.#scopes.add(scope);
    }
  }

  #admitFetch(request: Request, scopes: readonly string[]): Promise<Admission> {
    // Values of one header come joined by a comma, which no key has.
    const values = (name: string): readonly string[] => {
      const value = request.headers.get(name);
      return value === null ? [] : [value];
    };
    const address = this.#options.clientAddress?.(request) ?? "";
    return this.#admit(presented(this.#answers.places, values), scopes, address, values("x-request-id")[0]);
  }

  /** Never fails. */
  async #admit(
    { keys, isClear }: Presented,
    scopes: readonly string[],
    clientAddress: string,
    requestId = "",
  ): Promise<Admission> {
    const [apiKey] = keys;
    if (apiKey === undefined || !isClear) {
      // Decided here, so that requests without a key cost the server nothing.
      const reason = apiKey === undefined ? "CREDENTIAL_MISSING" : "CREDENTIAL_MALFORMED";
      return { answer: this.#answers.denial({ reason, missingScopes: [] }, scopes, requestId) };
    }
    try {
      const { keyspace } = this.#options;
      const verdict = await ask(this.#client, { apiKey, keyspace, clientAddress, requiredScopes: scopes });
      if (verdict.allowed) {
        return { principal: verdict.principal, headers: this.#answers.limitHeaders(verdict.rateLimit) };
      }
      return { answer: this.#answers.denial(verdict, scopes, requestId) };
    } catch (error) {
      this.#options.logger?.error("no_verdict", { cause: String(error) });
      return { answer: undecided(error instanceof KeyfenceError && error.isPassing) };
    }
  }

  #without(request: Request): Request {
    const { places } = this.#answers;
    const headers = new Headers(request.headers);
    for (const name of headersOf(places)) {
      headers.delete(name);
    }
    const cookies = headers.get("cookie");
    if (places.cookie !== "" && cookies !== null) {
      const left = withoutCookie(cookies, places.cookie);
      if (left === "") {
        headers.delete("cookie");
      } else {
        headers.set("cookie", left);
      }
    }
    return new Request(request, { headers });
  }
}

function headersOf(places: Places): string[] {
  return [...(places.bearer ? ["authorization"] : []), ...places.headers].map((name) => name.toLowerCase());
}

/**
 * What was presented, wherever the keyspace looks. Two credentials that differ, a header or cookie twice,
 * another scheme and a value with a comma are not clear: a program behind the guard might pick another one.
 */
function presented(places: Places, values: (name: string) => readonly string[]): Presented {
  const keys: string[] = [];
  let isClear = true;
  const note = (found: readonly string[]): void => {
    isClear &&= found.length <= 1;
    keys.push(...found);
  };
  if (places.bearer) {
    note(values("authorization").map((value) => bearer(value) ?? ""));
  }
  for (const name of places.headers) {
    note(values(name));
  }
  if (places.cookie !== "") {
    note(values("cookie").flatMap((cookies) => cookiesOf(cookies, places.cookie)));
  }
  return {
    keys,
    isClear: isClear && keys.every((key) => key === keys[0] && key !== "" && !key.includes(",")),
  };
}

function cookiesOf(cookies: string, name: string): string[] {
  return cookies
    .split(";")
    .map((one) => one.trim())
    .filter((one) => one.startsWith(`${name}=`))
    .map((one) => one.slice(name.length + 1));
}

/** The other cookies, their bytes as they are. */
function withoutCookie(cookies: string, name: string): string {
  return cookies
    .split(";")
    .filter((one) => !one.trim().startsWith(`${name}=`))
    .join(";")
    .trim();
}

/** Takes the credential off a request of Node's, wherever handlers may read it. */
function takeOff(request: NodeRequest, places: Places): void {
  const names = new Set(headersOf(places));
  for (const name of names) {
    delete request.headers[name];
    delete request.headersDistinct[name];
  }
  const raw = request.rawHeaders;
  for (let index = raw.length - 2; index >= 0; index -= 2) {
    const name = raw[index]?.toLowerCase() ?? "";
    if (names.has(name)) {
      raw.splice(index, 2);
    } else if (name === "cookie" && places.cookie !== "") {
      raw[index + 1] = withoutCookie(raw[index + 1] ?? "", places.cookie);
    }
  }
  const { cookie } = request.headers;
  if (places.cookie !== "" && typeof cookie === "string") {
    const left = withoutCookie(cookie, places.cookie);
    request.headers["cookie"] = left;
    request.headersDistinct["cookie"] = [left];
  }
}

function setHeaders(response: NodeResponse, headers: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(headers)) {
    response.setHeader(name, value);
  }
}

function responseOf(answer: HttpAnswer): Response {
  return new Response(answer.body, { status: answer.status, headers: answer.headers });
}

function withHeaders(response: Response, headers: Readonly<Record<string, string>>): Response {
  if (Object.keys(headers).length === 0) {
    return response;
  }
  // The headers of a response that was fetched cannot be changed.
  const changed = new Response(response.body, response);
  for (const [name, value] of Object.entries(headers)) {
    changed.headers.set(name, value);
  }
  return changed;
}
