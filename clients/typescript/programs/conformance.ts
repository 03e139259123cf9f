/**
 * Lets the conformance driver (conformance/README.md in the repository) speak to the holder. With an
 * argument, the guard of that name is left out, which the driver must notice.
 */

import type { JsonValue } from "@bufbuild/protobuf";
import { Core, RevisionMissing } from "../src/holder/core.js";
import type { Guard } from "../src/holder/lease.js";
import { GUARDS } from "../src/holder/lease.js";
import type { Fill } from "../src/holder/memory.js";
import { FetchFactsResponseSchema, fromJson, SyncResponseSchema } from "../src/v1/index.js";
import { serveLines } from "./lines.js";

interface Command {
  readonly do: string;
  /** The time in seconds. */
  readonly now: number;
  readonly key?: string;
  readonly scope?: string;
  readonly fill?: number;
  readonly message?: JsonValue;
}

const MAX_KEYS = 100;

const named = process.argv[2];
const without = GUARDS.find((guard): guard is Guard => guard === named);
if (named !== undefined && without === undefined) {
  throw new Error(`there is no guard "${named}"`);
}

let now = 0;
const clock = { monotonic: () => now, wall: () => now };
let core = new Core(MAX_KEYS, clock, without);
let fills: Fill[] = [];

function answer(command: Command): object {
  now = command.now * 1000;
  const { key = "", scope = "", message = {} } = command;
  switch (command.do) {
    case "start":
      core = new Core(MAX_KEYS, clock, without);
      fills = [];
      return {};
    case "begin":
      core.begin();
      return {};
    case "renew": {
      const renewal = core.renewal();
      return { nonce: Number(renewal.nonce), applied: Number(renewal.appliedRevision) };
    }
    case "acknowledge": {
      const renewal = core.acknowledgement();
      return renewal === undefined ? {} : { applied: Number(renewal.appliedRevision) };
    }
    case "take":
      try {
        core.take(fromJson(SyncResponseSchema, message));
        return {};
      } catch (error) {
        if (error instanceof RevisionMissing) {
          return { broken: error.message };
        }
        throw error;
      }
    case "fill": {
      const begun = core.beginFill(key);
      return begun === undefined
        ? {}
        : { fill: fills.push(begun.fill), at_least: Number(begun.request.atLeastRevision) };
    }
    case "facts": {
      const fill = fills[(command.fill ?? 0) - 1];
      if (fill === undefined) {
        throw new Error(`there is no fill ${command.fill}`);
      }
      core.endFill(fill, key, fromJson(FetchFactsResponseSchema, message));
      return {};
    }
    case "check": {
      const question = {
        apiKey: key,
        requiredScopes: [scope],
        keyspace: "",
        clientAddress: "",
        atLeastRevision: 0n,
      };
      const answered = core.answer(question);
      return answered === undefined ? {} : { reason: answered.reason };
    }
    default:
      throw new Error(`there is no command "${command.do}"`);
  }
}

await serveLines(answer);
