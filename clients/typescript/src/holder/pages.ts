/** Fetches keyspaces, which come in pages. */

import type { FetchKeyspacesRequest, FetchKeyspacesResponse } from "../v1/index.js";

type Ask = (
  request: Pick<FetchKeyspacesRequest, "atLeastRevision" | "pageToken">,
) => Promise<FetchKeyspacesResponse>;

/**
 * Fetches all pages, and makes one answer of them that is as old as the oldest. If the store has failed over
 * between two of them, the answer has no epoch.
 */
export async function everyPage(ask: Ask, atLeastRevision: bigint): Promise<FetchKeyspacesResponse> {
  const whole = await ask({ atLeastRevision, pageToken: "" });
  while (whole.nextPageToken !== "") {
    const page = await ask({ atLeastRevision, pageToken: whole.nextPageToken });
    whole.keyspaces.push(...page.keyspaces);
    whole.nextPageToken = page.nextPageToken;
    if (page.revision < whole.revision) {
      whole.revision = page.revision;
    }
    if (page.epoch !== whole.epoch) {
      whole.epoch = "";
    }
  }
  return whole;
}
