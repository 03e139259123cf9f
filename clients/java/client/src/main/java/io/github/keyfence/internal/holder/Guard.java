package io.github.keyfence.internal.holder;

/**
 * The guards of a holder. The conformance driver leaves out one at a time and must notice
 * (conformance/guards.py); a client has all of them.
 */
public enum Guard {
  /** A lease counts from when its renewal was sent. */
  COUNT_FROM_SENDING,
  /** A grant counts when every change up to its head is applied. */
  WAIT_FOR_HEAD,
  /** What is remembered of another epoch is forgotten. */
  FORGET_OTHER_EPOCH,
  /** Facts that a change has overtaken are not remembered. */
  DISCARD_OVERTAKEN_FILLS,
  /** A change is applied before it is acknowledged. */
  APPLY_BEFORE_ACK,
  /** A change of an unknown kind makes the holder forget everything. */
  FORGET_UNKNOWN_CHANGES,
  /** A revision after a missing one ends the stream. */
  REFUSE_GAPS,
  /** A new stream begins with nothing remembered and no lease. */
  FORGET_ON_NEW_STREAM,
}
