/** For tests of programs that use the client: a fake in memory, and a real Keyfence. */

export { findCommand, KeyfenceProcess } from "./process.js";
export { FakeError, FakeServer, keyspace, TOKEN } from "./server.js";
