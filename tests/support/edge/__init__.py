"""A real Envoy between a plain HTTP client and a real upstream, with a real Keyfence behind."""
