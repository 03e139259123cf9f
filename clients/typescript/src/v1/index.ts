/**
 * The API's messages and services, generated from the protos by protoc-gen-es.
 *
 * Make messages by the functions here and not by those of @bufbuild/protobuf: a message that is made
 * here, or that the client answers with, prints "(redacted)" in the place of a key.
 */

import type {
  BinaryReadOptions,
  DescMessage,
  JsonReadOptions,
  JsonValue,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import {
  create as plainCreate,
  fromBinary as plainFromBinary,
  fromJson as plainFromJson,
} from "@bufbuild/protobuf";
import { protect } from "./redact.js";

export * from "./keyfence/v1/account_service_pb.js";
export * from "./keyfence/v1/audit_service_pb.js";
export * from "./keyfence/v1/authorization_service_pb.js";
export * from "./keyfence/v1/error_reason_pb.js";
export * from "./keyfence/v1/explanation_pb.js";
export * from "./keyfence/v1/http_answers_pb.js";
export * from "./keyfence/v1/key_service_pb.js";
export * from "./keyfence/v1/keyspace_pb.js";
export * from "./keyfence/v1/keyspace_service_pb.js";
export * from "./keyfence/v1/options_pb.js";
export * from "./keyfence/v1/principal_pb.js";
export * from "./keyfence/v1/rate_limit_pb.js";
export * from "./keyfence/v1/reason_pb.js";
export * from "./keyfence/v1/replication_service_pb.js";

/** Makes a message. */
export function create<D extends DescMessage>(schema: D, init?: MessageInitShape<D>): MessageShape<D> {
  return protect(schema, plainCreate(schema, init));
}

/** Reads a message from the wire's bytes. */
export function fromBinary<D extends DescMessage>(
  schema: D,
  bytes: Uint8Array,
  options?: Partial<BinaryReadOptions>,
): MessageShape<D> {
  return protect(schema, plainFromBinary(schema, bytes, options));
}

/** Reads a message from the JSON of protobuf. */
export function fromJson<D extends DescMessage>(
  schema: D,
  json: JsonValue,
  options?: Partial<JsonReadOptions>,
): MessageShape<D> {
  return protect(schema, plainFromJson(schema, json, options));
}
