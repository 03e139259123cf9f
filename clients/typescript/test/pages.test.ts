import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { everyPage } from "../src/holder/pages.js";
import type { FetchKeyspacesResponse } from "../src/v1/index.js";
import { create, FetchKeyspacesResponseSchema } from "../src/v1/index.js";

function page(name: string, revision: bigint, epoch: string, nextPageToken: string): FetchKeyspacesResponse {
  return create(FetchKeyspacesResponseSchema, { keyspaces: [{ name }], revision, epoch, nextPageToken });
}

/** Fetches the pages, and says what was asked for. */
async function fetched(
  ...pages: readonly FetchKeyspacesResponse[]
): Promise<{ whole: FetchKeyspacesResponse; asked: string[] }> {
  const asked: string[] = [];
  const whole = await everyPage(({ atLeastRevision, pageToken }) => {
    asked.push(`${atLeastRevision} ${pageToken}`);
    return Promise.resolve(pages[asked.length - 1] ?? assert.fail("there is no such page"));
  }, 5n);
  return { whole, asked };
}

describe("keyspaces in pages", () => {
  it("are one answer, as old as the oldest page", async () => {
    const { whole, asked } = await fetched(
      page("a", 7n, "1", "t1"),
      page("b", 5n, "1", "t2"),
      page("c", 6n, "1", ""),
    );

    assert.deepEqual(asked, ["5 ", "5 t1", "5 t2"]);
    assert.deepEqual(
      whole.keyspaces.map(({ name }) => name),
      ["a", "b", "c"],
    );
    assert.deepEqual([whole.revision, whole.epoch, whole.nextPageToken], [5n, "1", ""]);
  });

  it("have no epoch if the store has failed over in between, also for a while", async () => {
    const { whole } = await fetched(
      page("a", 7n, "1", "t1"),
      page("b", 7n, "2", "t2"),
      page("c", 7n, "1", ""),
    );

    assert.equal(whole.epoch, "");
  });

  it("are not had if one page is not", async () => {
    const pages = [page("a", 7n, "1", "t1")];
    await assert.rejects(
      everyPage(() => {
        const next = pages.shift();
        return next ? Promise.resolve(next) : Promise.reject(new Error("gone"));
      }, 5n),
      /gone/,
    );
  });
});
