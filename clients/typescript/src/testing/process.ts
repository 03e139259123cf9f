/** A real Keyfence, as a process of its own. */

import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { Client } from "../client.js";
import type { ClientOptions } from "../options.js";
import { Secret } from "../secret.js";

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 15_000;
const POLL_MS = 50;

/** The command that `KeyfenceProcess.start` would run; undefined if it is not there. */
export function findCommand(): string | undefined {
  const command = process.env["KEYFENCE_COMMAND"] || "keyfence";
  if (command.includes("/")) {
    return existsSync(command) ? command : undefined;
  }
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  return folders.map((folder) => join(folder, command)).find((path) => existsSync(path));
}

/**
 * A real Keyfence on a Unix socket, with its data in a folder that is removed at the end.
 *
 * The command is the environment's KEYFENCE_COMMAND, or else `keyfence` on the PATH.
 */
export class KeyfenceProcess {
  /** The server's address, for `new Client({ target })`. */
  readonly target: string;
  /** The first operator credential, which may do everything. */
  readonly token: Secret;
  readonly #process: ChildProcess;
  readonly #directory: string;
  readonly #clients: Client[] = [];

  private constructor(running: ChildProcess, directory: string, target: string, token: Secret) {
    this.#process = running;
    this.#directory = directory;
    this.target = target;
    this.token = token;
  }

  /** Starts `keyfence serve`, with settings such as `{ KEYFENCE_LEASE_SECONDS: "1" }`. */
  static async start(settings: Readonly<Record<string, string>> = {}): Promise<KeyfenceProcess> {
    const command = findCommand();
    if (command === undefined) {
      throw new Error("there is no command keyfence: install keyfence-server, or set KEYFENCE_COMMAND");
    }
    // A socket's path must be short.
    const directory = await mkdtemp(join(tmpdir(), "kf"));
    const target = `unix:${join(directory, "keyfence.sock")}`;
    const data = join(directory, "data");
    const environment = Object.entries(process.env).filter(([name]) => !name.startsWith("KEYFENCE_"));
    const running = spawn(command, ["serve"], {
      cwd: directory,
      env: {
        ...Object.fromEntries(environment),
        KEYFENCE_LISTEN: target,
        KEYFENCE_DATA_DIR: data,
        ...settings,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    for (const output of [running.stdout, running.stderr]) {
      output.setEncoding("utf8").on("data", (text: string) => {
        said += text;
      });
    }
    let failure: Error | undefined;
    running.on("error", (error) => {
      failure = error;
    });
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < deadline && failure === undefined && running.exitCode === null) {
      const token = await readToken(join(data, "root.key"));
      if (token !== undefined && (await answers(target, token))) {
        return new KeyfenceProcess(running, directory, target, token);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    await stop(running);
    await rm(directory, { recursive: true, force: true });
    throw new Error(`keyfence serve does not answer: ${failure?.message ?? ""}\n${said}`);
  }

  /** The id of the process. */
  get pid(): number {
    return this.#process.pid as number;
  }

  /** A client of the process, with its first credential unless the options say otherwise. It is closed with it. */
  client(options: ClientOptions = {}): Client {
    const client = new Client({ target: this.target, token: this.token, ...options });
    this.#clients.push(client);
    return client;
  }

  /** Stops the process, and closes its clients. */
  async close(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    await stop(this.#process);
    await rm(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function readToken(path: string): Promise<Secret | undefined> {
  try {
    const text = (await readFile(path, "utf8")).trim();
    return text === "" ? undefined : new Secret(text);
  } catch {
    return undefined;
  }
}

async function answers(target: string, token: Secret): Promise<boolean> {
  const client = new Client({ target, token, timeoutMs: 1_000, checkTimeoutMs: 1_000 });
  try {
    await client.whoAmI();
    return true;
  } catch {
    return false;
  } finally {
    await client.close();
  }
}

async function stop(running: ChildProcess): Promise<void> {
  if (running.exitCode !== null || running.signalCode !== null || running.pid === undefined) {
    return;
  }
  const ended = new Promise((resolve) => running.once("exit", resolve));
  running.kill("SIGTERM");
  const killing = setTimeout(() => running.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(killing);
}
