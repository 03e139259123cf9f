/** Where a server is, and whether what is sent there stays on this machine. */

import { isIP } from "node:net";

/** How many characters a token has at least: what is shorter was not given in the wrong place. */
const SHORTEST_TOKEN = 22;
const URL_SCHEMES: ReadonlySet<string> = new Set(["http", "https", "grpc", "grpcs"]);
const LOOPBACK_V4 = /^127\.\d+\.\d+\.\d+$/;

/**
 * Whether everything that is sent to the target stays on this machine: over a Unix socket or the
 * loopback interface. What cannot be shown to stay is taken for a network.
 *
 * @throws TypeError for what is no target.
 */
export function isLocal(target: string): boolean {
  if (target === "" || /\s/.test(target)) {
    throw new TypeError(`${shown(target)} is not a target`);
  }
  const colon = target.indexOf(":");
  const scheme = colon < 0 ? "" : target.slice(0, colon);
  const rest = target.slice(colon + 1);
  if (scheme === "unix") {
    if (rest === "") {
      throw new TypeError(`target "${target}" names no socket`);
    }
    return true;
  }
  if (URL_SCHEMES.has(scheme) && rest.startsWith("//")) {
    throw new TypeError(
      `target "${target}" is a URL: give host:port; TLS is decided by the options tls and insecurePlaintext`,
    );
  }
  if (scheme === "dns") {
    // "dns://resolver/host:port": the name stands behind the authority.
    const address = rest.startsWith("//") ? rest.slice(2).replace(/^[^/]*\//, "") : rest;
    return isLoopback(target, address);
  }
  return isLoopback(target, target);
}

/** The target in the words of grpc-js. */
export function grpcTarget(target: string): string {
  // An address is no name to be looked up.
  const host = hostOf(target);
  if (host === undefined || target.startsWith("dns:")) {
    return target;
  }
  return isIP(host) === 0 ? `dns:${target}` : `${isIP(host) === 4 ? "ipv4" : "ipv6"}:${target}`;
}

function isLoopback(target: string, address: string): boolean {
  const host = hostOf(address);
  if (host === undefined) {
    throw new TypeError(
      `target ${shown(target)} must name host and port, for example "keyfence.example:443", ` +
        `"[::1]:50051" or "unix:/run/keyfence.sock"`,
    );
  }
  // RFC 6761, section 6.3: "localhost" is the loopback interface, wherever it is resolved.
  return host.toLowerCase() === "localhost" || host === "::1" || (isIP(host) === 4 && LOOPBACK_V4.test(host));
}

function hostOf(address: string): string | undefined {
  const parts = /^(\[[^\][/]+\]|[^:/[\]]+):(\d{1,5})$/.exec(address);
  if (parts?.[1] === undefined || Number(parts[2]) > 65_535) {
    return undefined;
  }
  return parts[1].replace(/^\[|\]$/g, "");
}

/** The target, unless it may be a token that was given in its place. */
function shown(target: string): string {
  return target.includes(":") || target.length < SHORTEST_TOKEN ? JSON.stringify(target) : "that was given";
}
