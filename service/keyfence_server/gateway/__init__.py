"""REST, gRPC-Web and the API's description, for those who do not speak gRPC.

The gateway is Envoy. All that is written here is its configuration, and how it is
started; no request passes through our code on its way.
"""
