import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { FakeServer } from "../src/testing/index.js";
import { TOKEN } from "../src/testing/index.js";
import { demoServer } from "./demo.js";

const run = promisify(execFile);
const home = fileURLToPath(new URL("../..", import.meta.url));
const BESIDE = ["express", "hono", "typescript", "@types/express", "@types/node"];

/** What the README's fragments take as given. */
const GIVEN = 'import { Client } from "@keyfence/client";\ndeclare const client: Client;\n';

describe("the README's examples, in a project of their own with the package as it is published", () => {
  let project: string;
  let server: FakeServer;
  let programs: string[];

  before(async () => {
    project = await mkdtemp(join(tmpdir(), "kf-readme"));
    server = await demoServer();
    const readme = await readFile(join(home, "README.md"), "utf8");
    programs = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map((found) => found[1] ?? "");
    const { devDependencies } = JSON.parse(await readFile(join(home, "package.json"), "utf8"));
    const beside = BESIDE.map((name) => `${name}@${devDependencies[name]}`);
    const options = ["--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error"];
    await run("npm", ["pack", "--silent", "--pack-destination", project], { cwd: home });
    await writeFile(join(project, "package.json"), JSON.stringify({ type: "module", private: true }));
    const { stdout } = await run("ls", [project]);
    const tarball = stdout.split("\n").find((name) => name.endsWith(".tgz"));
    assert.ok(tarball);
    await run("npm", ["install", ...options, `./${tarball}`, ...beside], { cwd: project });
  });

  after(async () => {
    await server.close();
    await rm(project, { recursive: true, force: true });
  });

  /** Compiles a program, or has its types checked alone. */
  async function compile(name: string, text: string, ...options: string[]): Promise<void> {
    await writeFile(join(project, name), text);
    const strict = ["--strict", "--target", "es2022", "--types", "node", "--skipLibCheck"];
    try {
      await run("npx", ["--no-install", "tsc", ...strict, ...options, name], { cwd: project });
    } catch (error) {
      assert.fail(`${name}: ${(error as { stdout: string }).stdout}\n${text}`);
    }
  }

  it("the program of the quick start runs, word for word", async () => {
    await compile("quickstart.ts", programs[0] ?? "", "--module", "nodenext");

    const env = { ...process.env, KEYFENCE_TARGET: server.target, KEYFENCE_TOKEN: TOKEN.reveal() };
    const { stdout } = await run("node", ["quickstart.js"], { cwd: project, env });

    assert.equal(stdout, "before: true OK\nafter: false KEY_REVOKED\n");
  });

  it("the parts of programs compile", async () => {
    assert.ok(programs.length >= 7);
    for (const [index, part] of programs.slice(1).entries()) {
      await compile(`part${index}.ts`, GIVEN + part, "--module", "nodenext", "--noEmit");
    }
  });

  it("the package is the client of edges where the platform is not Node", async () => {
    const text =
      'import { EdgeClient } from "@keyfence/client";\nnew EdgeClient({ url: "https://a.example", token: "t" });\n';
    await compile(
      "edge.ts",
      text,
      "--module",
      "esnext",
      "--moduleResolution",
      "bundler",
      "--lib",
      "es2023,dom",
      "--noEmit",
    );
    const wrong = 'import { Client } from "@keyfence/client";\nnew Client();\n';
    await assert.rejects(
      compile("wrong.ts", wrong, "--module", "esnext", "--moduleResolution", "bundler", "--noEmit"),
    );
  });
});
