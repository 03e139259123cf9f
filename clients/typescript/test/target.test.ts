import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { grpcTarget, isLocal } from "../src/target.js";

describe("a target", () => {
  for (const target of [
    "unix:/run/kf.sock",
    "127.0.0.1:1",
    "127.9.9.9:1",
    "[::1]:50051",
    "localhost:50051",
    "dns:///localhost:1",
  ]) {
    it(`${target} stays on this machine`, () => assert.equal(isLocal(target), true));
  }

  for (const target of [
    "keyfence.example:443",
    "10.0.0.1:443",
    "dns:///keyfence.example:443",
    "127.0.0.1.example:443",
    "dns://127.0.0.1/kf.example:443",
    "[::2]:1",
  ]) {
    it(`${target} is a network`, () => assert.equal(isLocal(target), false));
  }

  for (const target of [
    "",
    "keyfence",
    "https://keyfence.example",
    "unix:",
    "::1:50051",
    "host:port",
    "host:70000",
    "a b:1",
  ]) {
    it(`"${target}" is refused`, () => assert.throws(() => isLocal(target), TypeError));
  }

  it("is not shown if it may be a token", () => {
    assert.throws(
      () => isLocal("kf_system_0123456789abcdef"),
      (error: Error) => !error.message.includes("kf_system"),
    );
  });

  it("is told to grpc-js without names to be looked up where there are none", () => {
    assert.equal(grpcTarget("127.0.0.1:1"), "ipv4:127.0.0.1:1");
    assert.equal(grpcTarget("[::1]:1"), "ipv6:[::1]:1");
    assert.equal(grpcTarget("host:1"), "dns:host:1");
    assert.equal(grpcTarget("unix:/a"), "unix:/a");
  });
});
