"""Another Keyfence in the place of the store: what makes a server a sidecar."""
