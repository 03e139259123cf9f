"""The Keyfence server. Start reading at `composition`, or at `application` for what it does."""
