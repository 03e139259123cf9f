/** IP addresses and networks, as a holder compares them. */

/** An address as its bits: 32 of them, or 128. */
export interface Address {
  readonly size: 32 | 128;
  readonly bits: bigint;
}

/** A network: the addresses that share its first bits. */
export interface Network {
  readonly size: 32 | 128;
  readonly shift: bigint;
  readonly first: bigint;
}

const MAPPED_V4 = 0xffffn;
const OCTET = /^(?:0|[1-9]\d{0,2})$/;
const GROUP = /^[\da-f]{1,4}$/i;

/** Reads an address. IPv4 in IPv6 is IPv4. Undefined: it is none; one with a zone is none, either. */
export function parseAddress(text: string): Address | undefined {
  if (!text.includes(":")) {
    const bits = parseV4(text);
    return bits === undefined ? undefined : { size: 32, bits };
  }
  const bits = parseV6(text);
  if (bits === undefined) {
    return undefined;
  }
  return bits >> 32n === MAPPED_V4 ? { size: 32, bits: bits & 0xffffffffn } : { size: 128, bits };
}

/** Reads a network, or an address as the network of itself alone. Undefined: it is neither. */
export function parseNetwork(text: string): Network | undefined {
  const [host = "", length, more] = text.split("/");
  const address = parseAddress(host);
  if (address === undefined || more !== undefined) {
    return undefined;
  }
  let prefix: number = address.size;
  if (length !== undefined) {
    if (!OCTET.test(length)) {
      return undefined;
    }
    // A prefix of IPv4 that is written as IPv6 counts the 96 bits before it.
    prefix = Number(length) - (address.size === 32 && host.includes(":") ? 96 : 0);
  }
  if (prefix < 0 || prefix > address.size) {
    return undefined;
  }
  const shift = BigInt(address.size - prefix);
  return { size: address.size, shift, first: address.bits >> shift };
}

/** Whether the network has the address. */
export function contains(network: Network, address: Address): boolean {
  return network.size === address.size && address.bits >> network.shift === network.first;
}

/** The address as text; IPv4 in IPv6 as IPv4, and anything else as it was given. */
export function plainAddress(text: string): string {
  const address = text.includes(":") ? parseAddress(text) : undefined;
  if (address?.size !== 32) {
    return text;
  }
  return [24n, 16n, 8n, 0n].map((shift) => (address.bits >> shift) & 0xffn).join(".");
}

function parseV4(text: string): bigint | undefined {
  const octets = text.split(".");
  if (octets.length !== 4 || !octets.every((octet) => OCTET.test(octet) && Number(octet) < 256)) {
    return undefined;
  }
  return octets.reduce((bits, octet) => (bits << 8n) | BigInt(octet), 0n);
}

function parseV6(text: string): bigint | undefined {
  let written = text;
  const dotted = /^(.*:)([\d.]+\.[\d.]+)$/.exec(text);
  if (dotted) {
    const v4 = parseV4(dotted[2] ?? "");
    if (v4 === undefined) {
      return undefined;
    }
    written = `${dotted[1]}${(v4 >> 16n).toString(16)}:${(v4 & 0xffffn).toString(16)}`;
  }
  const halves = written.split("::");
  if (halves.length > 2) {
    return undefined;
  }
  const [before, after] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const groups = [...(before ?? []), ...(after ?? [])];
  const missing = 8 - groups.length;
  if (!groups.every((group) => GROUP.test(group)) || (halves.length === 2 ? missing < 1 : missing !== 0)) {
    return undefined;
  }
  groups.splice(before?.length ?? 0, 0, ...Array<string>(missing).fill("0"));
  return groups.reduce((bits, group) => (bits << 16n) | BigInt(`0x${group}`), 0n);
}
