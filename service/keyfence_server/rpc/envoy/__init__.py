"""`envoy.service.auth.v3.Authorization`: the question that Envoy asks about each request.

The scopes that a request needs come from the configuration of the route that Envoy has chosen
for it, and from nothing that the client sent. This package does not look at paths.
"""
