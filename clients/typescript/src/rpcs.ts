/** What the client knows of each RPC, read off the descriptors: no table here can disagree with them. */

import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";

/** How calls of an RPC are made. */
export interface RpcTraits {
  /** The path in HTTP/2: "/package.Service/Method". */
  readonly path: string;
  /** Its callers have callers waiting, so its deadline is short. */
  readonly isCheck: boolean;
  /** The server carries the request out once for each id. */
  readonly takesRequestId: boolean;
  /** Sending the same request again does no harm. */
  readonly isRepeatable: boolean;
}

const known = new WeakMap<DescMethod, RpcTraits>();

/** The path of a method in HTTP/2. */
export function pathOf(service: DescService, method: DescMethod): string {
  return `/${service.typeName}/${method.name}`;
}

/** How calls of the method are made. */
export function traitsOf(method: DescMethod): RpcTraits {
  let traits = known.get(method);
  if (traits === undefined) {
    const takesRequestId = method.input.fields.some((field) => field.name === "request_id");
    traits = {
      path: pathOf(method.parent, method),
      isCheck: method.parent.name === "AuthorizationService" || method.name === "FetchFacts",
      takesRequestId,
      isRepeatable:
        takesRequestId || method.idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN,
    };
    known.set(method, traits);
  }
  return traits;
}
