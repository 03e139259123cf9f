package io.github.keyfence;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Says why there was no answer. It shows neither the client's token nor the key that was asked
 * about, and is no denial: fail closed, and tell it from one.
 *
 * <pre>
 * KeyfenceException
 * ├── Unavailable      no server could answer now; the same call may succeed later
 * ├── InvalidRequest   the call is at fault; violations() may name fields
 * ├── NotPermitted     the client's own credential is missing, not good, or may not do this
 * ├── NotFound         there is no such key, keyspace or account
 * ├── Conflict         the state does not allow it, or has changed meanwhile
 * └── Closed           the client is closed
 * </pre>
 */
public class KeyfenceException extends RuntimeException {
  private static final long serialVersionUID = 1;
  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);
  // What is shorter is no key and is not cut out of messages.
  private static final int SHORTEST_SECRET = 8;
  private static final String REDACTED = "(redacted)";

  /** A fault in one field of a request. */
  public record Violation(String field, String description) implements Serializable {}

  private final Status.Code code;
  private final String reason;
  private final TreeMap<String, String> metadata;
  private final ArrayList<Violation> violations;
  private final String requestId;

  private KeyfenceException(Parts parts) {
    super(parts.shown());
    this.code = parts.code;
    this.reason = parts.reason;
    this.metadata = parts.metadata;
    this.violations = parts.violations;
    this.requestId = parts.requestId;
  }

  /** The gRPC status code. */
  public Status.Code code() {
    return code;
  }

  /**
   * The name of an error of docs/errors.md, for example "UNKNOWN_SCOPE". Empty if the error is not
   * one of Keyfence's.
   */
  public String reason() {
    return reason;
  }

  /** What the reason comes with, for example "nearest" for UNKNOWN_SCOPE. */
  public Map<String, String> metadata() {
    return Map.copyOf(metadata);
  }

  /** The faults in fields of the request. */
  public List<Violation> violations() {
    return List.copyOf(violations);
  }

  /** The id under which the server's log has the call. Empty: unknown. */
  public String requestId() {
    return requestId;
  }

  /** No server could answer now; the same call may succeed later. */
  public static final class Unavailable extends KeyfenceException {
    private static final long serialVersionUID = 1;

    private Unavailable(Parts parts) {
      super(parts);
    }
  }

  /** The call is at fault. */
  public static final class InvalidRequest extends KeyfenceException {
    private static final long serialVersionUID = 1;

    private InvalidRequest(Parts parts) {
      super(parts);
    }
  }

  /** The client's own credential is missing, not good, or may not do this. */
  public static final class NotPermitted extends KeyfenceException {
    private static final long serialVersionUID = 1;

    private NotPermitted(Parts parts) {
      super(parts);
    }
  }

  /** There is no such key, keyspace or account, or the caller may not know of it. */
  public static final class NotFound extends KeyfenceException {
    private static final long serialVersionUID = 1;

    private NotFound(Parts parts) {
      super(parts);
    }
  }

  /** The state does not allow it, or has changed meanwhile. */
  public static final class Conflict extends KeyfenceException {
    private static final long serialVersionUID = 1;

    private Conflict(Parts parts) {
      super(parts);
    }
  }

  /** The client is closed. */
  public static final class Closed extends KeyfenceException {
    private static final long serialVersionUID = 1;

    private Closed(Parts parts) {
      super(parts);
    }
  }

  static KeyfenceException closed() {
    return new Closed(new Parts(Status.Code.CANCELLED, "the client is closed"));
  }

  static KeyfenceException of(Status.Code code, String message) {
    return new Parts(code, message).made();
  }

  /** Makes the error of a failed call. Secrets are cut out of all that it shows. */
  static KeyfenceException of(Status status, Metadata trailers, List<String> secrets) {
    String message = status.getDescription();
    if (message == null || message.isEmpty()) {
      Throwable cause = status.getCause();
      message = cause == null ? "the call failed" : "the call failed: " + cause;
    }
    Parts parts = new Parts(status.getCode(), message);
    com.google.rpc.Status details = StatusProto.fromStatusAndTrailers(status, trailers);
    for (Any detail : details.getDetailsList()) {
      parts.take(detail);
    }
    String id = trailers == null ? null : trailers.get(REQUEST_ID);
    parts.requestId = id != null ? id : parts.metadata.getOrDefault("request_id", "");
    parts.cutOut(secrets);
    return parts.made();
  }

  /** Makes the error of one check of a batch. */
  static KeyfenceException of(io.github.keyfence.v1.CheckError error, String apiKey) {
    Parts parts = new Parts(Status.fromCodeValue(error.getCode()).getCode(), error.getMessage());
    parts.reason = error.getReason();
    parts.metadata.putAll(error.getMetadataMap());
    parts.requestId = parts.metadata.getOrDefault("request_id", "");
    parts.cutOut(List.of(apiKey));
    return parts.made();
  }

  private static final class Parts {
    private final Status.Code code;
    private String message;
    private String reason = "";
    private String requestId = "";
    private TreeMap<String, String> metadata = new TreeMap<>();
    private ArrayList<Violation> violations = new ArrayList<>();

    Parts(Status.Code code, String message) {
      this.code = code;
      this.message = message;
    }

    void take(Any detail) {
      try {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          if (info.getDomain().equals("keyfence")) {
            reason = info.getReason();
            metadata.putAll(info.getMetadataMap());
          }
        } else if (detail.is(BadRequest.class)) {
          detail
              .unpack(BadRequest.class)
              .getFieldViolationsList()
              .forEach(one -> violations.add(new Violation(one.getField(), one.getDescription())));
        }
      } catch (InvalidProtocolBufferException broken) {
        return; // a broken detail must not hide the status
      }
    }

    void cutOut(List<String> secrets) {
      for (String secret : secrets) {
        if (secret.length() < SHORTEST_SECRET) {
          continue;
        }
        message = message.replace(secret, REDACTED);
        reason = reason.replace(secret, REDACTED);
        requestId = requestId.replace(secret, REDACTED);
        TreeMap<String, String> kept = new TreeMap<>();
        metadata.forEach(
            (name, value) ->
                kept.put(name.replace(secret, REDACTED), value.replace(secret, REDACTED)));
        metadata = kept;
        violations.replaceAll(
            one ->
                new Violation(
                    one.field.replace(secret, REDACTED),
                    one.description.replace(secret, REDACTED)));
      }
    }

    String shown() {
      StringBuilder text = new StringBuilder("keyfence: ").append(code);
      if (!reason.isEmpty()) {
        text.append(" (").append(reason).append(')');
      }
      text.append(": ").append(message);
      for (Violation one : violations) {
        text.append("; ").append(one.field).append(": ").append(one.description);
      }
      if (!requestId.isEmpty()) {
        text.append(" [request ").append(requestId).append(']');
      }
      return text.toString();
    }

    KeyfenceException made() {
      return switch (code) {
        case UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, CANCELLED -> new Unavailable(this);
        case INVALID_ARGUMENT, OUT_OF_RANGE -> new InvalidRequest(this);
        case UNAUTHENTICATED, PERMISSION_DENIED -> new NotPermitted(this);
        case NOT_FOUND -> new NotFound(this);
        case ALREADY_EXISTS, ABORTED, FAILED_PRECONDITION -> new Conflict(this);
        default -> new KeyfenceException(this);
      };
    }
  }
}
