/** Where the client's own credential comes from. */

import { readFile, stat } from "node:fs/promises";
import { basename } from "node:path";
import type { Secret } from "./secret.js";
import { faultOfToken, revealed } from "./secret.js";

/** Has the credential of the moment. It is called for every RPC, and must be quick. */
export type TokenFunction = () => string | Secret | Promise<string | Secret>;

/** A credential, a function that has it, or a file that holds it. */
export type Token = string | Secret | TokenFunction | { readonly file: string };

const SHORTEST_TOKEN = 22;

/**
 * A function that has the credential; undefined: the client has none.
 *
 * @throws TypeError for a credential that can be none.
 */
export function tokenSource(token: Token | undefined): (() => Promise<string>) | undefined {
  if (token === undefined) {
    return undefined;
  }
  if (typeof token === "function") {
    return async () => checked(revealed(await token()));
  }
  if (typeof token === "object" && "file" in token) {
    return fileSource(token.file);
  }
  const text = checked(revealed(token));
  return () => Promise.resolve(text);
}

/** The credential, if it can be one. */
export function checked(token: string): string {
  const fault = faultOfToken(token);
  if (fault !== undefined) {
    throw new TypeError(fault);
  }
  return token;
}

/** Reads a file once for each of its versions. */
function fileSource(path: string): () => Promise<string> {
  let seen = "";
  let token = "";
  return async () => {
    try {
      const now = await stat(path, { bigint: true });
      // A replaced file is another file, even where its times were copied.
      const version = `${now.dev}:${now.ino}:${now.mtimeNs}:${now.size}`;
      if (version !== seen) {
        token = checked((await readFile(path, "utf8")).trim());
        seen = version;
      }
      return token;
    } catch (error) {
      throw new TypeError(unreadable(path, error));
    }
  };
}

/** Names the file, unless the path may be the token itself: a token has no slash and is long. */
function unreadable(path: string, error: unknown): string {
  const cause =
    error instanceof TypeError ? error.message : ((error as { code?: string }).code ?? "it failed");
  const isShown = basename(path) !== path || path.length < SHORTEST_TOKEN;
  return `the token file ${isShown ? `"${path}" ` : ""}cannot be read: ${cause}`;
}
