/** How keys were used, until it is reported. */

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ReportUsesRequest } from "../v1/index.js";
import { create, ReportUsesRequestSchema } from "../v1/index.js";
import { plainAddress } from "./addresses.js";

/** What is kept while the server is away. What comes beyond is not reported. */
const MAX_USES = 100_000;

/** How a key was used, on the UTC day of the last time. */
export interface Use {
  readonly keyId: string;
  /** Milliseconds since the epoch. */
  readonly lastUsed: number;
  readonly address: string;
  readonly count: number;
}

export class Uses {
  #noted = new Map<string, Use>();

  add(use: Use): void {
    const place = `${dayOf(use)} ${use.keyId}`;
    const known = this.#noted.get(place);
    if (known !== undefined) {
      const last = known.lastUsed > use.lastUsed ? known : use;
      this.#noted.set(place, { ...last, count: known.count + use.count });
    } else if (this.#noted.size < MAX_USES) {
      this.#noted.set(place, use);
    }
  }

  /** Hands over what was noted. */
  take(): Use[] {
    const taken = [...this.#noted.values()];
    this.#noted.clear();
    return taken;
  }
}

/** The message that reports the uses. */
export function reportOf(uses: readonly Use[]): ReportUsesRequest {
  return create(ReportUsesRequestSchema, {
    uses: uses.map((use) => ({
      keyId: use.keyId,
      day: dayOf(use),
      lastUsedTime: timestampFromMs(use.lastUsed),
      lastUsedAddress: plainAddress(use.address),
      count: BigInt(use.count),
    })),
  });
}

function dayOf(use: Use): string {
  return new Date(use.lastUsed).toISOString().slice(0, 10);
}
