import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { inspect } from "node:util";
import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { create as plainCreate, ScalarType, toBinary, toJson } from "@bufbuild/protobuf";
import { Secret } from "../src/index.js";
import * as v1 from "../src/v1/index.js";
import { canHoldSecret, secretsOf } from "../src/v1/redact.js";

const PLAINTEXT = "kf_live_plaintext";

function isMessage(value: unknown): value is DescMessage {
  return (value as { kind?: string } | undefined)?.kind === "message";
}

/** A message in which every text is the secret, as deep as messages go. */
function filled(schema: DescMessage, depth = 0): Record<string, unknown> {
  const message: Record<string, unknown> = {};
  for (const field of schema.fields) {
    const value = valueFor(field, depth);
    if (value === undefined) {
      continue;
    }
    if (field.oneof === undefined) {
      message[field.localName] = value;
    } else {
      message[field.oneof.localName] ??= { case: field.localName, value };
    }
  }
  return message;
}

function valueFor(field: DescField, depth: number): unknown {
  switch (field.fieldKind) {
    case "scalar":
      return field.scalar === ScalarType.STRING && field.proto.options?.debugRedact ? PLAINTEXT : undefined;
    case "message":
      return depth < 4 ? filled(field.message, depth + 1) : undefined;
    case "list":
      return field.message && depth < 4 ? [filled(field.message, depth + 1)] : undefined;
    default:
      return undefined;
  }
}

const holding = Object.values(v1 as Record<string, unknown>)
  .filter(isMessage)
  .filter(canHoldSecret);

describe("a generated message that holds a key", () => {
  it("is known by its proto", () => {
    const names = holding.map((schema) => schema.name);

    assert.ok(holding.length >= 10, names.join());
    for (const name of ["CreateKeyResponse", "CheckScopeRequest", "BatchCheckScopeRequest", "LogInRequest"]) {
      assert.ok(names.includes(name), name);
    }
  });

  for (const schema of holding) {
    it(`${schema.name} prints none, and keeps it`, () => {
      const plain = plainCreate(schema, filled(schema));
      assert.ok(inspect(plain, { depth: 9 }).includes(PLAINTEXT), "the message of the test holds a secret");

      const message = v1.fromBinary(schema, toBinary(schema, plain));

      for (const printed of [
        inspect(message, { depth: 9 }),
        String(message),
        JSON.stringify(message),
        JSON.stringify({ message }),
      ]) {
        assert.ok(!printed.includes(PLAINTEXT), printed);
        assert.ok(printed.includes("(redacted)"), printed);
      }
      assert.deepEqual(toBinary(schema, message), toBinary(schema, plain));
      assert.deepEqual(toJson(schema, message), toJson(schema, plain));
      assert.ok(secretsOf(schema, message).includes(PLAINTEXT));
    });
  }

  it("prints no hash of a key, and keeps it", () => {
    for (const kind of ["sha256", "sha512"] as const) {
      const value = new Uint8Array(32).fill(0xab);
      const keys = [{ accountId: "acct_1", secret: { case: kind, value } }];
      const made = v1.create(v1.ImportKeysRequestSchema, { keyspace: "demo", keys });

      for (const printed of [inspect(made, { depth: 9 }), String(made), JSON.stringify(made)]) {
        assert.ok(printed.includes("acct_1") && printed.includes(kind), printed);
        assert.ok(!/q6ur|171|0xab|abab/.test(printed), printed);
      }
      assert.deepEqual(made.keys[0]?.secret, { case: kind, value });
    }
  });

  it("prints none when a program makes it", () => {
    const made = v1.create(v1.AuthenticateRequestSchema, { apiKey: PLAINTEXT, keyspace: "demo" });

    assert.ok(!inspect(made).includes(PLAINTEXT));
    assert.ok(inspect(made).includes("demo"));
    assert.equal(made.apiKey, PLAINTEXT);
  });
});

describe("a Secret", () => {
  it("is never printed", () => {
    const secret = new Secret(PLAINTEXT);

    assert.equal(`${secret} ${inspect(secret)} ${JSON.stringify({ secret })}`.includes(PLAINTEXT), false);
    assert.equal(inspect({ secret }, { showHidden: true }).includes(PLAINTEXT), false);
    assert.equal(secret.reveal(), PLAINTEXT);
  });
});
