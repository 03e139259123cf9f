/**
 * Messages that hold a key print "(redacted)" in its place.
 *
 * Messages of protobuf-es are plain objects, so the methods that print them stand on a prototype,
 * which `protect` gives to each message that can hold a field marked as debug_redact.
 */

import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import { ScalarType, toJson } from "@bufbuild/protobuf";
import { REDACTED } from "../secret.js";

const inspectSymbol = Symbol.for("nodejs.util.inspect.custom");

type Fields = Record<string, unknown>;
type Inspect = (value: unknown, options: unknown) => string;

const holding = new Map<DescMessage, boolean>();
const prototypes = new Map<DescMessage, object>();

/** Whether messages of the type can hold a secret, themselves or in a message within them. */
export function canHoldSecret(schema: DescMessage): boolean {
  const known = holding.get(schema);
  if (known !== undefined) {
    return known;
  }
  holding.set(schema, false); // a type within itself
  const holds = schema.fields.some((field) => {
    const inner = messageOf(field);
    return isSecret(field) || (inner !== undefined && canHoldSecret(inner));
  });
  holding.set(schema, holds);
  return holds;
}

/** Makes the message print without its secrets. Changes nothing of what it holds. */
export function protect<T extends Message>(schema: DescMessage, message: T): T {
  if (canHoldSecret(schema)) {
    eachInner(schema, message as unknown as Fields, (inner, value) => {
      protect(inner, value as unknown as Message);
    });
    Object.setPrototypeOf(message, prototypeOf(schema));
  }
  return message;
}

/** The texts that the message holds in fields marked as debug_redact. */
export function secretsOf(schema: DescMessage, message: object): string[] {
  if (!canHoldSecret(schema)) {
    return [];
  }
  const fields = message as Fields;
  const found = schema.fields
    .filter(isSecret)
    .map((field) => read(field, fields))
    .filter((value): value is string => typeof value === "string");
  eachInner(schema, fields, (inner, value) => {
    found.push(...secretsOf(inner, value));
  });
  return found;
}

function prototypeOf(schema: DescMessage): object {
  let prototype = prototypes.get(schema);
  if (prototype === undefined) {
    prototype = Object.create(Object.prototype, {
      toString: {
        value(this: Fields) {
          return `${schema.typeName} ${JSON.stringify(this)}`;
        },
      },
      toJSON: {
        value(this: Fields) {
          return toJson(schema, redacted(schema, this) as unknown as Message);
        },
      },
      [inspectSymbol]: {
        value(this: Fields, _depth: number, options: unknown, inspect: Inspect) {
          return inspect(redacted(schema, this), options);
        },
      },
    }) as object;
    prototypes.set(schema, prototype);
  }
  return prototype;
}

function redacted(schema: DescMessage, message: Fields): Fields {
  const copy: Fields = { ...message };
  for (const field of schema.fields) {
    const inner = messageOf(field);
    const value = read(field, message);
    if (value === undefined) {
      continue;
    }
    if (isSecret(field)) {
      write(
        field,
        copy,
        field.fieldKind === "scalar" && typeof value === "string" ? REDACTED : emptyOf(field),
      );
    } else if (inner !== undefined && canHoldSecret(inner)) {
      write(
        field,
        copy,
        mapped(field, value, (one) => redacted(inner, one)),
      );
    }
  }
  return copy;
}

function emptyOf(field: DescField): unknown {
  if (field.fieldKind === "scalar" && field.scalar === ScalarType.BYTES) {
    return new Uint8Array();
  }
  // Lists and whatever else a later proto may mark: left out.
  return field.fieldKind === "list" ? [] : field.fieldKind === "map" ? {} : undefined;
}

function isSecret(field: DescField): boolean {
  return field.proto.options?.debugRedact ?? false;
}

function messageOf(field: DescField): DescMessage | undefined {
  return field.fieldKind === "message" || field.fieldKind === "list" || field.fieldKind === "map"
    ? field.message
    : undefined;
}

function read(field: DescField, message: Fields): unknown {
  if (field.oneof === undefined) {
    return message[field.localName];
  }
  const chosen = message[field.oneof.localName] as { case?: string; value?: unknown } | undefined;
  return chosen?.case === field.localName ? chosen.value : undefined;
}

function write(field: DescField, message: Fields, value: unknown): void {
  if (field.oneof === undefined) {
    message[field.localName] = value;
  } else {
    message[field.oneof.localName] = { case: field.localName, value };
  }
}

function mapped(field: DescField, value: unknown, change: (one: Fields) => Fields): unknown {
  switch (field.fieldKind) {
    case "list":
      return (value as Fields[]).map(change);
    case "map":
      return Object.fromEntries(
        Object.entries(value as Record<string, Fields>).map(([name, one]) => [name, change(one)]),
      );
    default:
      return change(value as Fields);
  }
}

function eachInner(
  schema: DescMessage,
  message: Fields,
  visit: (inner: DescMessage, value: Fields) => void,
): void {
  for (const field of schema.fields) {
    const inner = messageOf(field);
    const value = read(field, message);
    if (inner !== undefined && value !== undefined && canHoldSecret(inner)) {
      mapped(field, value, (one) => {
        visit(inner, one);
        return one;
      });
    }
  }
}
