"""REST, gRPC-Web and OpenAPI, for clients that do not speak gRPC.

The gateway is Envoy. This package makes its configuration and starts it. The only code of ours
that sees a request is Lua that runs in Envoy: `headers.lua` and `rest_requests.lua` refuse what
Envoy would let through.
"""
