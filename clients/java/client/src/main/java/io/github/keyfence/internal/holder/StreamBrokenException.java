package io.github.keyfence.internal.holder;

/** Says that a stream must be given up, since what the grantor says on it cannot be followed. */
public final class StreamBrokenException extends Exception {
  private static final long serialVersionUID = 1;

  StreamBrokenException(String message) {
    super(message);
  }
}
