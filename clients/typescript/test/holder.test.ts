import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServerDuplexStream, ServerUnaryCall } from "@grpc/grpc-js";
import { Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { DETAILS_TRAILER, writeDetails } from "../src/details.js";
import type { Logger } from "../src/index.js";
import { Client } from "../src/index.js";
import { definitionOf } from "../src/testing/server.js";
import type { SyncRequest, SyncResponse } from "../src/v1/index.js";
import {
  AuthenticateResponseSchema,
  AuthorizationService,
  create,
  Reason,
  ReplicationService,
  SyncResponseSchema,
} from "../src/v1/index.js";
import { until } from "./demo.js";

type Stream = ServerDuplexStream<SyncRequest, SyncResponse>;
type Said = SyncRequest["message"];

/** A grantor that does what a test tells it to, stream by stream. */
class Grantor {
  readonly heard: Said[][] = [];
  readonly #server = new Server();
  readonly #clients: Client[] = [];

  async start(serve: (stream: Stream, count: number) => void, logger?: Logger): Promise<Client> {
    this.#server.addService(definitionOf(AuthorizationService), {
      authenticate: (
        _call: ServerUnaryCall<object, object>,
        callback: (error: null, value: object) => void,
      ) => {
        callback(null, create(AuthenticateResponseSchema, { reason: Reason.KEY_UNKNOWN }));
      },
    });
    this.#server.addService(definitionOf(ReplicationService), {
      sync: (stream: Stream) => {
        const heard: Said[] = [];
        const count = this.heard.push(heard);
        stream.on("data", ({ message }: SyncRequest) => heard.push(message));
        stream.on("end", () => stream.end());
        stream.on("error", () => undefined);
        serve(stream, count);
      },
      fetchKeyspaces: (_call: object, callback: (error: object) => void) =>
        callback({ code: 14, details: "not here" }),
    });
    const port = await new Promise<number>((resolve) => {
      this.#server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (_, bound) => resolve(bound));
    });
    const target = `127.0.0.1:${port}`;
    const client = new Client({ target, token: "kf_system_token", cache: true, ...(logger && { logger }) });
    this.#clients.push(client);
    await client.authenticate({ apiKey: "kf_live_nothing" });
    return client;
  }

  async close(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    this.#server.forceShutdown();
  }
}

function letIn(stream: Stream): void {
  const header = new Metadata();
  header.set("x-keyfence-let-in", "1");
  stream.sendMetadata(header);
}

function say(
  stream: Stream,
  message: NonNullable<MessageInitShape<typeof SyncResponseSchema>["message"]>,
): void {
  stream.write(create(SyncResponseSchema, { message } as MessageInitShape<typeof SyncResponseSchema>));
}

/** Answers each request for a lease, as long as the test wants. */
function grant(stream: Stream, seconds: bigint, goesOn: () => boolean = () => true): void {
  stream.on("data", ({ message }: SyncRequest) => {
    if (message.case === "renew" && message.value.nonce > 0n && goesOn()) {
      const { nonce } = message.value;
      say(stream, { case: "lease", value: { nonce, ttl: { seconds }, headRevision: 5n, epoch: "a" } });
    }
  });
}

describe("a holder on its stream", () => {
  let grantor: Grantor;

  afterEach(() => grantor.close());

  it("says nothing before it is let in, and then hello before all else", async () => {
    grantor = new Grantor();
    let before: number | undefined;
    const client = await grantor.start((stream, count) => {
      setTimeout(() => {
        before ??= grantor.heard[count - 1]?.length ?? 0;
        letIn(stream);
      }, 200);
      grant(stream, 2n);
    });
    await until(() => client.cacheStatus()?.live === true, "the cache has a lease");

    assert.equal(before, 0);
    const [hello, renew] = grantor.heard[0] ?? [];
    assert.ok(hello?.case === "hello" && renew?.case === "renew");
    assert.equal(hello.value.protocolVersion, 1);
    assert.ok(hello.value.holderId.length >= 16 && hello.value.holderId.length <= 64);
    assert.deepEqual([renew.value.nonce, renew.value.appliedRevision], [1n, 0n]);
  });

  it("acknowledges each revision, and ends a stream on which one is missing", async () => {
    grantor = new Grantor();
    let open: Stream | undefined;
    const client = await grantor.start((stream) => {
      letIn(stream);
      grant(stream, 2n);
      open = stream;
    });
    const acknowledged = (revision: bigint): boolean =>
      grantor.heard
        .flat()
        .some(
          (one) => one.case === "renew" && one.value.nonce === 0n && one.value.appliedRevision === revision,
        );
    await until(() => acknowledged(5n), "the head is acknowledged");
    assert.ok(open);
    say(open, { case: "changes", value: { revision: 6n, changes: [] } });
    await until(() => acknowledged(6n), "the change is acknowledged");
    assert.equal(client.cacheStatus()?.appliedRevision, 6n);
    say(open, { case: "changes", value: { revision: 8n, changes: [] } });

    await until(() => grantor.heard.length === 2, "there is another stream");
    assert.ok(!acknowledged(8n));
  });

  it("gives up a stream that is silent, and answers nothing once the lease has ended", async () => {
    grantor = new Grantor();
    let isSilent = false;
    const client = await grantor.start((stream, count) => {
      if (count === 1) {
        letIn(stream);
        grant(stream, 1n, () => !isSilent);
      }
    });
    await until(() => client.cacheStatus()?.live === true, "the cache has a lease");
    isSilent = true;

    await until(() => grantor.heard.length === 2, "there is another stream");
    await until(() => client.cacheStatus()?.live === false, "the lease has ended");
  });

  it("gives up what it has when the grantor takes the lease back, says so, and comes again", async () => {
    grantor = new Grantor();
    const client = await grantor.start((stream, count) => {
      letIn(stream);
      grant(stream, 60n);
      if (count === 1) {
        setTimeout(() => say(stream, { case: "end", value: {} }), 200);
      }
    });

    await until(() => grantor.heard.length === 2, "there is another stream");
    assert.equal(grantor.heard[0]?.at(-1)?.case, "givenUp");
    await until(() => client.cacheStatus()?.live === true, "the cache has a lease");
    const nonces = grantor.heard
      .flat()
      .flatMap((one) => (one.case === "renew" && one.value.nonce > 0n ? [one.value.nonce] : []));
    assert.equal(new Set(nonces).size, nonces.length, "no nonce comes twice");
  });

  it("leaves a grantor alone for as long as that asks when it ends the stream", async () => {
    grantor = new Grantor();
    const said: unknown[] = [];
    const note = (_event: string, fields: object): void => void said.push(fields);
    const details = writeDetails(status.RESOURCE_EXHAUSTED, "later", "LIMIT_REACHED", {
      retry_after_seconds: "7",
    });
    const metadata = new Metadata();
    metadata.set(DETAILS_TRAILER, Buffer.from(details));
    await grantor.start(
      (stream) => {
        letIn(stream);
        stream.once("data", () =>
          stream.emit("error", { code: status.RESOURCE_EXHAUSTED, details: "later", metadata }),
        );
      },
      { info: note, error: note },
    );
    await until(() => said.length > 0, "the stream has ended");

    const { cause, pauseMs } = said[0] as { cause: string; pauseMs: number };
    assert.match(cause, /RESOURCE_EXHAUSTED LIMIT_REACHED/);
    assert.ok(pauseMs >= 7_000 && pauseMs <= 10_500, `${pauseMs} ms`);
  });

  it("starts anew on each stream, whatever lease it has", async () => {
    grantor = new Grantor();
    const client = await grantor.start((stream, count) => {
      letIn(stream);
      if (count === 1) {
        grant(stream, 60n);
        setTimeout(() => stream.end(), 300);
      }
    });
    await until(() => client.cacheStatus()?.live === true, "the cache has a lease");

    await until(() => grantor.heard.length === 2, "there is another stream");
    await until(() => client.cacheStatus()?.live === false, "the long lease is given up");
  });
});
