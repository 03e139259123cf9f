/** How a keyspace speaks HTTP, compiled: docs/http.md has the language. */

import type { RateLimitStatus, Verdict } from "../checks.js";
import { REASONS } from "../checks.js";

/** What a keyspace declares in its section "http": the message of the API, or its JSON. */
export interface HttpAnswersLike {
  readonly credentials?: {
    readonly bearer?: boolean;
    readonly headers?: readonly string[];
    readonly cookie?: string;
  };
  readonly answers?: readonly HttpAnswerLike[];
  readonly contentType?: string;
  readonly body?: string;
  readonly rateLimitHeaders?: {
    readonly limit?: string;
    readonly remaining?: string;
    readonly reset?: string;
  };
}

/** The answer for one cause. What is empty is as in a more general answer. */
export interface HttpAnswerLike {
  readonly cause?: string;
  readonly status?: number;
  readonly code?: string;
  readonly message?: string;
  readonly body?: string;
  readonly wwwAuthenticate?: string;
}

/** Where callers may put their key. */
export interface Places {
  readonly bearer: boolean;
  readonly headers: readonly string[];
  readonly cookie: string;
}

/** An answer of HTTP. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

type Value = string | number | readonly string[] | null;
type Values = Readonly<Record<string, Value>>;
type Parts = Required<Omit<HttpAnswerLike, "cause">>;
/** Literal texts at even places, names of values at odd ones. */
type Template = readonly string[];

interface Compiled {
  readonly status: number;
  readonly code: string;
  readonly message: Template;
  readonly challenge: Template;
  readonly body: (values: Values) => string;
}

const DEFAULT_BODY = '{"error": "{code}", "error_description": "{message}"}';
const MAX_DEPTH = 8;
const UNAUTHENTICATED = "unauthenticated";

// The words are those of RFC 6750, section 3.1. The challenge of a 401 names no error: it would tell a missing
// credential from a wrong one.
const DEFAULTS: Readonly<Record<string, Parts>> = {
  [UNAUTHENTICATED]: {
    status: 401,
    code: "invalid_token",
    message: "The credential is missing or not valid",
    body: "",
    wwwAuthenticate: '{scheme} realm="{keyspace}"',
  },
  scope_missing: {
    status: 403,
    code: "insufficient_scope",
    message: "The credential does not allow this",
    body: "",
    wwwAuthenticate: '{scheme} realm="{keyspace}", error="insufficient_scope"',
  },
  rate_limited: {
    status: 429,
    code: "rate_limited",
    message: "Too many requests",
    body: "",
    wwwAuthenticate: "",
  },
};

/** The answers of a keyspace. */
export class Answers {
  readonly places: Places;
  readonly #keyspace: string;
  readonly #contentType: string;
  readonly #limits: { readonly limit: string; readonly remaining: string; readonly reset: string };
  readonly #byReason = new Map<string, Compiled>();

  /** @throws Error for a declaration that the server would not have taken. */
  constructor(declared: HttpAnswersLike | undefined, keyspace: string) {
    this.#keyspace = keyspace;
    this.#contentType = declared?.contentType || "application/json";
    const given = declared?.credentials ?? { bearer: true, headers: ["X-API-Key"] };
    this.places = { bearer: given.bearer ?? false, headers: given.headers ?? [], cookie: given.cookie ?? "" };
    const limits = declared?.rateLimitHeaders ?? {
      limit: "X-RateLimit-Limit",
      remaining: "X-RateLimit-Remaining",
      reset: "X-RateLimit-Reset",
    };
    this.#limits = {
      limit: limits.limit ?? "",
      remaining: limits.remaining ?? "",
      reset: limits.reset ?? "",
    };
    for (const reason of [...REASONS, "UNRECOGNIZED"]) {
      const parts = resolve(declared?.answers ?? [], reason.toLowerCase());
      this.#byReason.set(reason, {
        status: parts.status,
        code: parts.code,
        message: parseTemplate(parts.message),
        challenge: parseTemplate(parts.wwwAuthenticate),
        body: compileBody(parts.body || declared?.body || DEFAULT_BODY, this.#contentType),
      });
    }
  }

  /** The answer for a key that does not pass. */
  denial(
    verdict: Pick<Verdict, "reason" | "missingScopes" | "rateLimit">,
    required: readonly string[],
    requestId: string,
  ): HttpAnswer {
    const compiled = this.#byReason.get(verdict.reason) as Compiled;
    // Of a 401 the limit would tell that there is such a key.
    const isKnown = verdict.reason === "SCOPE_MISSING" || verdict.reason === "RATE_LIMITED";
    const limit = isKnown ? verdict.rateLimit : undefined;
    const placed = {
      keyspace: this.#keyspace,
      scheme: this.places.bearer ? "Bearer" : "ApiKey",
      code: compiled.code,
      status: compiled.status,
      missing_scopes: verdict.missingScopes,
      required_scopes: required,
      request_id: requestId,
      time: `${new Date().toISOString().slice(0, 19)}Z`,
      limit: limit?.limit ?? null,
      remaining: limit?.remaining ?? null,
      reset: limit ? unixTime(limit.resetTime) : null,
      retry_after: limit?.retryAfterSeconds ?? null,
    };
    const values: Values = { ...placed, message: render(compiled.message, placed, ", ") };
    const challenge = render(compiled.challenge, values, " ");
    return {
      status: compiled.status,
      headers: {
        "content-type": this.#contentType,
        // The answer is for this credential and this moment.
        "cache-control": "no-store",
        ...this.limitHeaders(limit),
        ...(limit?.retryAfterSeconds !== undefined && { "retry-after": String(limit.retryAfterSeconds) }),
        ...(challenge !== "" && { "www-authenticate": challenge }),
      },
      body: compiled.body(values),
    };
  }

  /** The headers that say where a rate limit stands. */
  limitHeaders(limit: RateLimitStatus | undefined): Record<string, string> {
    if (limit === undefined) {
      return {};
    }
    const named: [string, number][] = [
      [this.#limits.limit, limit.limit],
      [this.#limits.remaining, limit.remaining],
      [this.#limits.reset, unixTime(limit.resetTime)],
    ];
    return Object.fromEntries(
      named.filter(([name]) => name !== "").map(([name, value]) => [name, String(value)]),
    );
  }
}

/** The answer for a request that nothing could be decided about: never in the words of a denial. */
export function undecided(isPassing: boolean): HttpAnswer {
  return {
    status: isPassing ? 503 : 500,
    headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" },
    body: isPassing
      ? "authorization is unavailable at the moment; try again\n"
      : "authorization is not set up correctly\n",
  };
}

/** The answer for a reason: its own words, then those of the cause behind it, then ours. */
function resolve(declared: readonly HttpAnswerLike[], own: string): Parts {
  const general = own in DEFAULTS ? own : UNAUTHENTICATED;
  const resolved = { ...(DEFAULTS[general] as Parts) };
  for (const cause of [general, own]) {
    for (const one of declared.filter((answer) => answer.cause === cause)) {
      resolved.status = one.status || resolved.status;
      resolved.code = one.code || resolved.code;
      resolved.message = one.message || resolved.message;
      resolved.body = one.body || resolved.body;
      resolved.wwwAuthenticate = one.wwwAuthenticate || resolved.wwwAuthenticate;
    }
  }
  return resolved;
}

function unixTime(time: Date): number {
  return Math.ceil(time.getTime() / 1000);
}

function parseTemplate(text: string): Template {
  const parts: string[] = [];
  let literal = "";
  let position = 0;
  for (const found of text.matchAll(/\{\{|\}\}|\{([a-z_]+)\}|[{}]/g)) {
    literal += text.slice(position, found.index);
    position = found.index + found[0].length;
    if (found[1] !== undefined) {
      parts.push(literal, found[1]);
      literal = "";
    } else if (found[0].length === 2) {
      literal += found[0].slice(0, 1);
    } else {
      throw new Error(`the "${found[0]}" at character ${found.index + 1} belongs to no placeholder`);
    }
  }
  return [...parts, literal + text.slice(position)];
}

function render(template: Template, values: Values, separator: string): string {
  return template
    .map((part, index) => {
      if (index % 2 === 0) {
        return part;
      }
      const value = values[part] ?? "";
      return typeof value === "object" ? value.join(separator) : String(value);
    })
    .join("");
}

function compileBody(text: string, contentType: string): (values: Values) => string {
  if (contentType === "text/plain") {
    const template = parseTemplate(text);
    return (values) => render(template, values, ", ");
  }
  const filled = compileJson(JSON.parse(text), MAX_DEPTH);
  return (values) => JSON.stringify(filled(values));
}

/** What is put into a string is written as a value, so that none can break out of its place. */
function compileJson(json: unknown, depth: number): (values: Values) => unknown {
  if (depth < 0) {
    throw new Error("the body is nested too deep");
  }
  if (typeof json === "string") {
    const template = parseTemplate(json);
    const [before, name, after] = template;
    // Of a string that is a placeholder and nothing else, the placeholder's own value.
    const isWhole = template.length === 3 && before === "" && after === "" && name !== undefined;
    return (values) => (isWhole ? (values[name] ?? null) : render(template, values, ", "));
  }
  if (Array.isArray(json)) {
    const inner = json.map((one) => compileJson(one, depth - 1));
    return (values) => inner.map((one) => one(values));
  }
  if (typeof json === "object" && json !== null) {
    const inner = Object.entries(json).map(([name, one]) => [name, compileJson(one, depth - 1)] as const);
    return (values) => Object.fromEntries(inner.map(([name, one]) => [name, one(values)]));
  }
  return () => json;
}
