import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { DescService, FileRegistry, MessageShape } from "@bufbuild/protobuf";
import { create, createFileRegistry, setExtension, toBinary } from "@bufbuild/protobuf";
import type { FileDescriptorProto } from "@bufbuild/protobuf/wkt";
import {
  EmptySchema,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_descriptor,
  file_google_protobuf_empty,
  MethodOptionsSchema,
} from "@bufbuild/protobuf/wkt";
import type { ServerUnaryCall, ServiceError } from "@grpc/grpc-js";
import { credentials, Client as GrpcClient, Metadata, Server, ServerCredentials } from "@grpc/grpc-js";
import { GrpcGuard, principalOf } from "../src/guard/index.js";
import type { Client } from "../src/index.js";
import type { FakeServer } from "../src/testing/index.js";
import { FakeError } from "../src/testing/index.js";
import { definitionOf } from "../src/testing/server.js";
import { Access, access, file_keyfence_v1_options, required_scope } from "../src/v1/index.js";
import { demoServer } from "./demo.js";

type Options = MessageShape<typeof MethodOptionsSchema>;

/** A proto of a user's: a service whose methods say what they need. */
function userFile(scope: string): FileDescriptorProto {
  const options = (set: (made: Options) => void): Options => {
    const made = create(MethodOptionsSchema);
    set(made);
    return made;
  };
  const method = (name: string, made?: Options, streams = false): object => ({
    name,
    inputType: ".google.protobuf.Empty",
    outputType: ".google.protobuf.Empty",
    serverStreaming: streams,
    ...(made && { options: made }),
  });
  return create(FileDescriptorProtoSchema, {
    name: "servers.proto",
    package: "test",
    syntax: "proto3",
    dependency: ["google/protobuf/empty.proto", "keyfence/v1/options.proto"],
    service: [
      {
        name: "Servers",
        method: [
          method(
            "List",
            options((made) => setExtension(made, required_scope, scope)),
          ),
          method(
            "Watch",
            options((made) => setExtension(made, required_scope, scope)),
            true,
          ),
          method(
            "Any",
            options((made) => setExtension(made, access, Access.ANY_CREDENTIAL)),
          ),
          method(
            "Both",
            options((made) => {
              setExtension(made, required_scope, scope);
              setExtension(made, access, Access.ANY_CREDENTIAL);
            }),
          ),
          method("Nothing"),
        ],
      },
      { name: "Health", method: [method("Check")] },
    ],
  });
}

function registryOf(scope = "vps:read"): FileRegistry {
  return createFileRegistry(userFile(scope), (name) =>
    name.startsWith("keyfence")
      ? file_keyfence_v1_options
      : name.endsWith("empty.proto")
        ? file_google_protobuf_empty
        : file_google_protobuf_descriptor,
  );
}

function serviceOf(registry: FileRegistry, name: string): DescService {
  const found = registry.getService(name);
  assert.ok(found);
  return found;
}

describe("a guard of gRPC services", () => {
  let fake: FakeServer;
  let client: Client;
  let server: Server;
  let caller: GrpcClient;
  let seen: { keyId: string | undefined; calls: number };
  const services = [serviceOf(registryOf(), "test.Servers"), serviceOf(registryOf(), "test.Health")];

  before(async () => {
    fake = await demoServer();
    client = fake.client();
    const guard = new GrpcGuard(client, { keyspace: "demo", services, unguarded: ["test.Health"] });
    server = new Server({ interceptors: [guard.interceptor] });
    const answer = (
      call: ServerUnaryCall<object, object>,
      callback: (error: null, value: object) => void,
    ): void => {
      seen = { keyId: principalOf(call)?.keyId, calls: seen.calls + 1 };
      callback(null, create(EmptySchema));
    };
    const [servers, health] = services as [DescService, DescService];
    const watch = (call: { metadata: Metadata; write(message: object): void; end(): void }): void => {
      seen = { keyId: principalOf(call)?.keyId, calls: seen.calls + 1 };
      call.write(create(EmptySchema));
      call.end();
    };
    const unary = { list: answer, any: answer, both: answer, nothing: answer };
    server.addService(definitionOf(servers), { ...unary, watch } as never);
    server.addService(definitionOf(health), { check: answer } as never);
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    caller = new GrpcClient(`127.0.0.1:${port}`, credentials.createInsecure());
  });

  after(async () => {
    caller.close();
    server.forceShutdown();
    await fake.close();
  });

  /** Calls a method with these headers. The status's name is "OK" or its number, with the details. */
  function call(path: string, headers: Record<string, string | string[]>): Promise<string> {
    seen = { keyId: undefined, calls: 0 };
    const metadata = new Metadata();
    for (const [name, values] of Object.entries(headers)) {
      for (const value of [values].flat()) {
        metadata.add(name, value);
      }
    }
    const nothing = (): Buffer => Buffer.alloc(0);
    return new Promise((resolve) => {
      const said = (error: ServiceError | null): void =>
        resolve(error ? `${error.code} ${error.details}` : "OK");
      if (path.endsWith("Watch")) {
        const stream = caller.makeServerStreamRequest(path, nothing, () => ({}), {}, metadata);
        stream.on("data", () => undefined);
        stream.on("error", said);
        stream.on("end", () => resolve("OK"));
      } else {
        caller.makeUnaryRequest(path, nothing, () => ({}), {}, metadata, said);
      }
    });
  }

  for (const method of ["List", "Watch", "Both"]) {
    it(`lets a key with the scope through to ${method}, and tells whose it is`, async () => {
      const { apiKey, keyId } = await fake.createKey("demo", "vps:read");

      assert.equal(
        await call(`/test.Servers/${method}`, { authorization: `Bearer ${apiKey.reveal()}` }),
        "OK",
      );
      assert.deepEqual(seen, { keyId, calls: 1 });
    });

    it(`refuses a key without the scope at ${method}`, async () => {
      const { apiKey } = await fake.createKey("demo");

      assert.equal(
        await call(`/test.Servers/${method}`, { "x-api-key": apiKey.reveal() }),
        "7 the API key lacks: vps:read",
      );
      assert.equal(seen.calls, 0);
    });

    it(`refuses a call without a good key at ${method}, in the same words`, async () => {
      const { apiKey, keyId } = await fake.createKey("demo", "vps:read");
      await fake.revokeKey(keyId);
      const refused = "16 a valid API key is required";
      const key = apiKey.reveal();

      for (const headers of [
        {},
        { "x-api-key": key },
        { "x-api-key": "nonsense" },
        { authorization: key },
        { authorization: "Bearer " },
      ]) {
        assert.equal(await call(`/test.Servers/${method}`, headers as Record<string, string>), refused);
      }
      assert.equal(seen.calls, 0);
    });
  }

  it("refuses two keys, of which a service may read the other one", async () => {
    const { apiKey } = await fake.createKey("demo", "vps:read");
    const key = apiKey.reveal();

    assert.match(
      await call("/test.Servers/List", { authorization: `Bearer ${key}`, "x-api-key": key }),
      /^16/,
    );
    assert.match(await call("/test.Servers/List", { "x-api-key": [key, key] }), /^16/);
  });

  it("lets any good key through where the proto says so", async () => {
    const { apiKey } = await fake.createKey("demo");

    assert.equal(await call("/test.Servers/Any", { "x-api-key": apiKey.reveal() }), "OK");
    assert.match(await call("/test.Servers/Any", {}), /^16/);
  });

  it("refuses to all what declares nothing, and leaves the unguarded alone", async () => {
    const { apiKey } = await fake.createKey("demo", "*");

    assert.match(await call("/test.Servers/Nothing", { "x-api-key": apiKey.reveal() }), /^7 .*not open/);
    assert.equal(seen.calls, 0);
    assert.equal(await call("/test.Health/Check", {}), "OK");
  });

  it("tells an outage and a mistake from a denial", async () => {
    const { apiKey } = await fake.createKey("demo", "vps:read");
    fake.failNext("CheckScope", 4, new FakeError("UNAVAILABLE", "STORE_UNAVAILABLE", "away"));
    assert.match(
      await call("/test.Servers/List", { "x-api-key": apiKey.reveal() }),
      /^14 authorization is unavailable/,
    );
    fake.failNext("CheckScope", 1, new FakeError("PERMISSION_DENIED", "SCOPE_REQUIRED", "no"));
    assert.match(
      await call("/test.Servers/List", { "x-api-key": apiKey.reveal() }),
      /^13 authorization is not set up/,
    );
  });

  it("says at the start what is wrong", async () => {
    const wrong = new GrpcGuard(client, {
      keyspace: "demo",
      services: [serviceOf(registryOf("vps:raed"), "test.Servers")],
    });
    await assert.rejects(wrong.verify(), /test\.Servers\/Nothing declares no required_scope.*"vps:raed"/);

    const right = new GrpcGuard(client, {
      keyspace: "demo",
      services,
      unguarded: ["test.Health", "/test.Servers/Nothing"],
    });
    await right.verify();
  });

  it("reads a descriptor set, whatever generates the stubs", async () => {
    const file = [file_google_protobuf_descriptor, file_google_protobuf_empty, file_keyfence_v1_options].map(
      (one) => one.proto,
    );
    const bytes = toBinary(
      FileDescriptorSetSchema,
      create(FileDescriptorSetSchema, { file: [...file, userFile("vps:raed")] }),
    );
    const guard = new GrpcGuard(client, { keyspace: "demo", services: bytes });

    await assert.rejects(guard.verify(), /"vps:raed"/);
  });

  it("needs a keyspace", () => {
    assert.throws(() => new GrpcGuard(client, { keyspace: "", services: [] }), TypeError);
  });
});
