"""One id for a request, in its answer and in Keyfence's log.

A caller's own id goes through. Keyfence keeps none that is long, odd or has the form of a key,
and then both get another one: an id with a long run of letters and digits is replaced, unless
it has the form of an id.
"""

from __future__ import annotations

from keyfence_server.domain import redaction
from keyfence_server.gateway.parts import Config, extension, header, http_filter, typed
from keyfence_server.rpc.metadata import PLAIN, REQUEST_ID


def usable_request_ids() -> Config:
    """The filter that gives a request another id if need be."""
    name = REQUEST_ID
    fresh = http_filter(
        "envoy.filters.http.header_mutation",
        "header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": [{"append": header(name, "%UNIQUE_ID%")}]},
    )
    short = {"not_matcher": _header_matches(name, f".*{redaction.BODY.pattern}.*")}
    an_id = _header_matches(name, redaction.ID.pattern)
    usable = {
        "and_matcher": {
            "predicate": [
                _header_matches(name, PLAIN.pattern),
                {"or_matcher": {"predicate": [short, an_id]}},
            ]
        }
    }
    skip = {
        "name": "skip",
        "typed_config": typed("extensions.filters.common.matcher.action.v3.SkipFilter"),
    }
    return extension(
        "filters.http.match_delegate",
        "common.matching.v3.ExtensionWithMatcher",
        extension_config=fresh,
        xds_matcher={
            "matcher_list": {"matchers": [{"predicate": usable, "on_match": {"action": skip}}]}
        },
    )


def _header_matches(name: str, pattern: str) -> Config:
    return {
        "single_predicate": {
            "input": {
                "name": name,
                "typed_config": typed(
                    "type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name
                ),
            },
            "value_match": {"safe_regex": {"google_re2": {}, "regex": pattern}},
        }
    }
