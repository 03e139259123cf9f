"""The Keyfence server. Start reading at `bootstrap`, or at `application` for what it does."""
