/**
 * The details of a gRPC error: google.rpc.Status with ErrorInfo and BadRequest, which come in the
 * trailer grpc-status-details-bin. Three small messages of which four fields each are needed.
 */

import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Violation } from "./errors.js";

/** The trailer that carries the details. */
export const DETAILS_TRAILER = "grpc-status-details-bin";

const DOMAIN = "keyfence";
const ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo";
const BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest";

/** What the details of an error tell. */
export interface Details {
  reason: string;
  metadata: Record<string, string>;
  violations: Violation[];
}

/** Reads google.rpc.Status. Broken details must not hide the status: they tell nothing. */
export function readDetails(bytes: Uint8Array | undefined): Details {
  const details: Details = { reason: "", metadata: {}, violations: [] };
  if (bytes === undefined) {
    return details;
  }
  try {
    for (const any of fieldsOf(bytes)[3] ?? []) {
      const [typeUrl, value] = [textOf(any, 1), fieldsOf(any)[2]?.[0]];
      if (typeUrl === ERROR_INFO && value !== undefined && textOf(value, 2) === DOMAIN) {
        details.reason = textOf(value, 1);
        for (const entry of fieldsOf(value)[3] ?? []) {
          details.metadata[textOf(entry, 1)] = textOf(entry, 2);
        }
      } else if (typeUrl === BAD_REQUEST && value !== undefined) {
        for (const one of fieldsOf(value)[1] ?? []) {
          details.violations.push({ field: textOf(one, 1), description: textOf(one, 2) });
        }
      }
    }
  } catch {
    return { reason: "", metadata: {}, violations: [] };
  }
  return details;
}

/** Writes google.rpc.Status, as Keyfence does. */
export function writeDetails(
  code: number,
  message: string,
  reason: string,
  metadata: Readonly<Record<string, string>>,
  violations: readonly Violation[] = [],
): Uint8Array {
  const writer = new BinaryWriter().uint32(tag(1, WireType.Varint)).int32(code);
  text(writer, 2, message);
  const info = new BinaryWriter();
  text(info, 1, reason);
  text(info, 2, DOMAIN);
  for (const [name, value] of Object.entries(metadata)) {
    const entry = new BinaryWriter();
    text(entry, 1, name);
    text(entry, 2, value);
    inner(info, 3, entry);
  }
  any(writer, ERROR_INFO, info);
  if (violations.length > 0) {
    const request = new BinaryWriter();
    for (const violation of violations) {
      const one = new BinaryWriter();
      text(one, 1, violation.field);
      text(one, 2, violation.description);
      inner(request, 1, one);
    }
    any(writer, BAD_REQUEST, request);
  }
  return writer.finish();
}

function any(writer: BinaryWriter, typeUrl: string, message: BinaryWriter): void {
  const wrapped = new BinaryWriter();
  text(wrapped, 1, typeUrl);
  inner(wrapped, 2, message);
  inner(writer, 3, wrapped);
}

function inner(writer: BinaryWriter, field: number, message: BinaryWriter): void {
  writer.uint32(tag(field, WireType.LengthDelimited)).bytes(message.finish());
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.uint32(tag(field, WireType.LengthDelimited)).string(value);
}

function tag(field: number, type: WireType): number {
  return (field << 3) | type;
}

/** The fields with a length of a message, by their numbers. */
function fieldsOf(bytes: Uint8Array): Record<number, Uint8Array[]> {
  const fields: Record<number, Uint8Array[]> = {};
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (type === WireType.LengthDelimited) {
      fields[field] ??= [];
      fields[field].push(reader.bytes());
    } else {
      reader.skip(type, field);
    }
  }
  return fields;
}

function textOf(bytes: Uint8Array, field: number): string {
  const found = fieldsOf(bytes)[field]?.at(-1);
  return found === undefined ? "" : new TextDecoder().decode(found);
}
