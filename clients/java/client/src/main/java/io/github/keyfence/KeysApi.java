package io.github.keyfence;

import io.github.keyfence.v1.CreateKeyRequest;
import io.github.keyfence.v1.CreateKeyResponse;
import io.github.keyfence.v1.GetKeyRequest;
import io.github.keyfence.v1.GetKeyResponse;
import io.github.keyfence.v1.GetKeyUsageRequest;
import io.github.keyfence.v1.GetKeyUsageResponse;
import io.github.keyfence.v1.KeyServiceGrpc;
import io.github.keyfence.v1.ListKeysRequest;
import io.github.keyfence.v1.ListKeysResponse;
import io.github.keyfence.v1.RevokeKeyRequest;
import io.github.keyfence.v1.RevokeKeyResponse;
import io.github.keyfence.v1.RotateKeyRequest;
import io.github.keyfence.v1.RotateKeyResponse;
import io.github.keyfence.v1.UpdateKeyRequest;
import io.github.keyfence.v1.UpdateKeyResponse;

/**
 * The RPCs that manage keys. Each call fails with a {@link KeyfenceException}. {@link
 * KeyfenceClient#callAsync} makes the same calls without waiting.
 */
public final class KeysApi {
  private final KeyfenceClient client;

  KeysApi(KeyfenceClient client) {
    this.client = client;
  }

  /** Makes a key. The plaintext is in this answer and nowhere else, ever. */
  public CreateKeyResponse createKey(CreateKeyRequest request) {
    return client.call(KeyServiceGrpc.getCreateKeyMethod(), request);
  }

  /** Reads a key's record. */
  public GetKeyResponse getKey(GetKeyRequest request) {
    return client.call(KeyServiceGrpc.getGetKeyMethod(), request);
  }

  /** Lists keys, oldest first. Pages stay stable while keys are made and changed. */
  public ListKeysResponse listKeys(ListKeysRequest request) {
    return client.call(KeyServiceGrpc.getListKeysMethod(), request);
  }

  /** Changes a key's record: name, scopes, state, expiry, addresses or labels. */
  public UpdateKeyResponse updateKey(UpdateKeyRequest request) {
    return client.call(KeyServiceGrpc.getUpdateKeyMethod(), request);
  }

  /** Says how often a key was used on each day. */
  public GetKeyUsageResponse getKeyUsage(GetKeyUsageRequest request) {
    return client.call(KeyServiceGrpc.getGetKeyUsageMethod(), request);
  }

  /** Makes a successor with the same grants, and lets the old key live for {@code overlap}. */
  public RotateKeyResponse rotateKey(RotateKeyRequest request) {
    return client.call(KeyServiceGrpc.getRotateKeyMethod(), request);
  }

  /**
   * Revokes a key, and with it every key that was delegated from it. Final. Once this has returned
   * OK, nothing accepts the key. Revoking a revoked key is OK again.
   */
  public RevokeKeyResponse revokeKey(RevokeKeyRequest request) {
    return client.call(KeyServiceGrpc.getRevokeKeyMethod(), request);
  }
}
