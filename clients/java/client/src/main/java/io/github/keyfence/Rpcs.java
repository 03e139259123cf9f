package io.github.keyfence;

import com.google.protobuf.DescriptorProtos.MethodOptions.IdempotencyLevel;
import com.google.protobuf.Descriptors.MethodDescriptor;
import com.google.protobuf.Descriptors.ServiceDescriptor;
import io.github.keyfence.v1.AccountServiceGrpc;
import io.github.keyfence.v1.AuditServiceGrpc;
import io.github.keyfence.v1.AuthorizationServiceGrpc;
import io.github.keyfence.v1.KeyServiceGrpc;
import io.github.keyfence.v1.KeyspaceServiceGrpc;
import io.github.keyfence.v1.ReplicationServiceGrpc;
import io.grpc.protobuf.ProtoServiceDescriptorSupplier;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * What the client knows of each RPC. It is read off the API's descriptors, so that no table here
 * can disagree with them.
 */
final class Rpcs {
  static final String REQUEST_ID = "request_id";

  /**
   * An RPC.
   *
   * @param isCheck its callers wait, so its deadline is short.
   * @param takesRequestId the server carries the request out once for each id.
   * @param isRepeatable sending the same request again does no harm.
   */
  record Rpc(
      String service,
      String method,
      boolean isCheck,
      boolean takesRequestId,
      boolean isRepeatable) {}

  private static final Rpc UNKNOWN = new Rpc("", "", false, false, false);
  private static final Map<String, Rpc> BY_NAME = describe();

  private Rpcs() {}

  /** The RPC of a name like "keyfence.v1.KeyService/CreateKey". */
  static Rpc find(String fullMethodName) {
    return BY_NAME.getOrDefault(fullMethodName, UNKNOWN);
  }

  private static Map<String, Rpc> describe() {
    Map<String, Rpc> described = new HashMap<>();
    for (io.grpc.ServiceDescriptor service :
        List.of(
            AuthorizationServiceGrpc.getServiceDescriptor(),
            KeyServiceGrpc.getServiceDescriptor(),
            KeyspaceServiceGrpc.getServiceDescriptor(),
            AccountServiceGrpc.getServiceDescriptor(),
            AuditServiceGrpc.getServiceDescriptor(),
            ReplicationServiceGrpc.getServiceDescriptor())) {
      ServiceDescriptor schema =
          ((ProtoServiceDescriptorSupplier) service.getSchemaDescriptor()).getServiceDescriptor();
      for (MethodDescriptor method : schema.getMethods()) {
        if (!method.isClientStreaming() && !method.isServerStreaming()) {
          described.put(schema.getFullName() + "/" + method.getName(), describe(schema, method));
        }
      }
    }
    return described;
  }

  private static Rpc describe(ServiceDescriptor service, MethodDescriptor method) {
    boolean takesRequestId = method.getInputType().findFieldByName(REQUEST_ID) != null;
    return new Rpc(
        service.getFullName(),
        method.getName(),
        service.getName().equals("AuthorizationService") || method.getName().equals("FetchFacts"),
        takesRequestId,
        takesRequestId
            || method.getOptions().getIdempotencyLevel() != IdempotencyLevel.IDEMPOTENCY_UNKNOWN);
  }

  /**
   * Says which calls gRPC sends again, and when (gRPC proposal A6): UNAVAILABLE, and CANCELLED, by
   * which a server gives up calls that it has not looked at. Four attempts, about 50, 150 and 450
   * ms apart, within the deadline. Many failures in a row end retrying until calls succeed again,
   * so that clients do not hold down a server that is trying to get up.
   */
  static Map<String, Object> serviceConfig(String loadBalancing) {
    List<Object> names = new ArrayList<>();
    for (Rpc one : BY_NAME.values()) {
      if (one.isRepeatable) {
        names.add(Map.of("service", one.service, "method", one.method));
      }
    }
    Map<String, Object> retries =
        Map.of(
            "maxAttempts",
            4.0,
            "initialBackoff",
            "0.05s",
            "maxBackoff",
            "1s",
            "backoffMultiplier",
            3.0,
            "retryableStatusCodes",
            List.of("UNAVAILABLE", "CANCELLED"));
    return Map.of(
        "loadBalancingConfig", List.of(Map.of(loadBalancing, Map.of())),
        "methodConfig", List.of(Map.of("name", names, "retryPolicy", retries)),
        "retryThrottling", Map.of("maxTokens", 100.0, "tokenRatio", 0.1));
  }
}
