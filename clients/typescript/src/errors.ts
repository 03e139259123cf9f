import { withoutSecrets } from "./secret.js";

/** The names of gRPC's status codes, by number. */
export const STATUS_NAMES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** The name of a gRPC status code. */
export type StatusName = (typeof STATUS_NAMES)[number];

/** The name of a status code; "UNKNOWN" for a number that stands for none. */
export function statusName(code: number): StatusName {
  return STATUS_NAMES[code] ?? "UNKNOWN";
}

/** A fault in one field of a request. */
export interface Violation {
  /** The field, as in the proto: "required_scopes". */
  readonly field: string;
  readonly description: string;
}

/** What is known of a failed call. */
export interface Failure {
  readonly status: StatusName;
  readonly message: string;
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly Violation[];
  readonly requestId?: string;
}

/**
 * There was no answer. It never means that a key is bad: a key that does not pass is a verdict.
 *
 * Neither the client's token nor a key that was asked about stands in any of the fields.
 */
export class KeyfenceError extends Error {
  override readonly name = "KeyfenceError";
  /** The gRPC status. */
  readonly status: StatusName;
  /** Why, by a name of docs/errors.md. Empty: the failure did not come from Keyfence. */
  readonly reason: string;
  /** What belongs to the reason, for example `nearest` with `UNKNOWN_SCOPE`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The faults in fields of the request. */
  readonly violations: readonly Violation[];
  /** The id under which the server's log has the call. Empty: unknown. */
  readonly requestId: string;

  constructor(failure: Failure, secrets: readonly string[] = []) {
    const clean = (text: string): string => withoutSecrets(text, secrets);
    const reason = clean(failure.reason ?? "");
    const requestId = clean(failure.requestId ?? "");
    const violations = (failure.violations ?? []).map((one) => ({
      field: clean(one.field),
      description: clean(one.description),
    }));
    const faults = violations.map((one) => `; ${one.field}: ${one.description}`).join("");
    const suffix = requestId === "" ? "" : ` [request ${requestId}]`;
    const label = reason === "" ? failure.status : `${failure.status} (${reason})`;
    super(`${label}: ${clean(failure.message) || "the call failed"}${faults}${suffix}`);
    this.status = failure.status;
    this.reason = reason;
    this.metadata = Object.fromEntries(
      Object.entries(failure.metadata ?? {}).map(([name, value]) => [clean(name), clean(value)]),
    );
    this.violations = violations;
    this.requestId = requestId;
  }

  /** Whether the failure may be gone when the call is made again. */
  get isPassing(): boolean {
    return PASSING.has(this.status);
  }
}

const PASSING: ReadonlySet<StatusName> = new Set([
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "RESOURCE_EXHAUSTED",
  "CANCELLED",
]);

/** The error of calls on a client that was closed. */
export function closedError(): KeyfenceError {
  return new KeyfenceError({ status: "CANCELLED", message: "the client is closed" });
}
