"""REST, gRPC-Web and the API's description, for those who do not speak gRPC.

The gateway is Envoy. What is written here is its configuration, and how it is started. The
only code of ours on a request's way is Lua that runs in Envoy and refuses what Envoy would
let through: `credentials.lua` and `bodies.lua`.
"""
