/** Stands where a secret was. */
export const REDACTED = "(redacted)";

const inspectSymbol = Symbol.for("nodejs.util.inspect.custom");

/**
 * A key or a token in plaintext, which is never printed: `console.log`, `String` and `JSON.stringify`
 * show "(redacted)" in its place. Wherever the client takes a key, it takes a `Secret` as well.
 */
export class Secret {
  readonly #plaintext: string;

  constructor(plaintext: string) {
    this.#plaintext = plaintext;
  }

  /** The plaintext. */
  reveal(): string {
    return this.#plaintext;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspectSymbol](): string {
    return REDACTED;
  }
}

/** The plaintext of a text or a `Secret`. */
export function revealed(secret: string | Secret): string {
  return typeof secret === "string" ? secret : secret.reveal();
}

/** Shorter texts are no secrets, and cutting them out would make messages unreadable. */
const SHORTEST_SECRET = 8;

/** The text without any of the secrets. */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) {
    if (secret.length >= SHORTEST_SECRET) {
      clean = clean.replaceAll(secret, REDACTED);
    }
  }
  return clean;
}

/** Says what is wrong with a token, without showing it; undefined if it is good. */
export function faultOfToken(token: string): string | undefined {
  if (token === "") {
    return "the token is empty";
  }
  return /^[!-~]+$/.test(token) ? undefined : "the token must be printable ASCII without spaces";
}
