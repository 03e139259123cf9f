"""What Keyfence does: one use case a file, and the ports that they need from the world."""
