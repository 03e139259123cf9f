/** The shop's service of deliveries. It calls the orders with its caller's key. */

import { readFileSync } from "node:fs";
import type { ServerUnaryCall, ServiceError, sendUnaryData } from "@grpc/grpc-js";
import { credentials, loadPackageDefinition, Metadata, Server, ServerCredentials } from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";
import { Client } from "@keyfence/client";
import { GrpcGuard } from "@keyfence/client/guard";

interface Asked {
  readonly order_id: string;
}

interface Answer {
  readonly handled_by: readonly string[];
}

const NAME = "deliveries (TypeScript)";
// Both the stubs and what the RPCs demand come from one descriptor set, so fields have their names in the proto.
const described = readFileSync(process.env["SHOP_DESCRIPTORS"] ?? "");
// biome-ignore lint/suspicious/noExplicitAny: stubs that are made at run time have no types
const { polyglot } = loadPackageDefinition(loadFileDescriptorSetFromBuffer(described)) as any;
// The connection to the orders stays on this machine.
const orders = new polyglot.v1.OrderService(process.env["ORDERS_TARGET"], credentials.createInsecure());

const deliveries = {
  planDelivery(call: ServerUnaryCall<Asked, Answer>, answer: sendUnaryData<Answer>): void {
    const metadata = new Metadata();
    // The guard has made sure that there is exactly one.
    for (const key of call.metadata.get("authorization")) {
      metadata.set("authorization", key);
    }
    const told = (error: ServiceError | null, found?: Answer): void =>
      answer(error, found && { handled_by: [NAME, ...found.handled_by] });
    orders.getOrder({ order_id: call.request.order_id }, metadata, { deadline: call.getDeadline() }, told);
  },
  getDelivery(_: ServerUnaryCall<Asked, Answer>, answer: sendUnaryData<Answer>): void {
    answer(null, { handled_by: [NAME] });
  },
};

const client = new Client({ cache: true });
const guard = new GrpcGuard(client, { keyspace: "shop", services: described });
const server = new Server({ interceptors: [guard.interceptor] });
server.addService(polyglot.v1.DeliveryService.service, deliveries);
await new Promise<void>((resolve, reject) => {
  const address = process.env["DELIVERIES_TARGET"] ?? "";
  server.bindAsync(address, ServerCredentials.createInsecure(), (error) =>
    error ? reject(error) : resolve(),
  );
});
for await (const _ of process.stdin); // the end of the input ends the service
server.forceShutdown();
orders.close();
process.stdout.write(`${client.cacheStatus()?.hits}\n`);
await client.close();
