/** A program that reads a line of JSON and writes a line of JSON, until its input ends. */

import { createInterface } from "node:readline";

/** Answers each command in turn. */
export async function serveLines<C>(answer: (command: C) => unknown): Promise<void> {
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line) as C))}\n`);
  }
}
