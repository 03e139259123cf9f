package io.github.keyfence.v1;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.FieldDescriptor.JavaType;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.TextFormat;
import com.google.protobuf.util.JsonFormat;
import java.util.Base64;
import java.util.List;
import org.junit.jupiter.api.Test;

final class RedactionTest {
  private static final String SECRET = "kf_live_secretsecretsecret";

  @Test
  void noMessageShowsAFieldThatTheProtosMark() throws Exception {
    int found = 0;
    for (FileDescriptor file :
        List.of(
            CheckScopeRequest.getDescriptor().getFile(),
            CreateKeyRequest.getDescriptor().getFile(),
            LogInRequest.getDescriptor().getFile(),
            FetchFactsRequest.getDescriptor().getFile())) {
      for (Descriptor type : file.getMessageTypes()) {
        for (FieldDescriptor field : type.getFields()) {
          if (field.getOptions().getDebugRedact()) {
            found++;
            assertHidden(type, field);
          }
        }
      }
    }
    assertTrue(found >= 10, "the protos mark " + found + " fields");
  }

  private static void assertHidden(Descriptor type, FieldDescriptor field) throws Exception {
    Class<?> made = Class.forName("io.github.keyfence.v1." + type.getName());
    boolean isText = field.getJavaType() == JavaType.STRING;
    Message.Builder builder = (Message.Builder) made.getMethod("newBuilder").invoke(null);
    builder.setField(field, isText ? SECRET : ByteString.copyFromUtf8(SECRET));
    Message message = builder.build();
    String encoded = Base64.getEncoder().encodeToString(SECRET.getBytes(UTF_8));
    String json = JsonFormat.printer().print(message);
    String text = TextFormat.printer().printToString(message);
    for (String shown : List.of(message.toString(), builder.toString(), json, text)) {
      boolean isShown = shown.contains(SECRET) || shown.contains(encoded);
      assertFalse(isShown, type.getFullName() + " shows " + field.getName());
      assertEquals(isText, shown.contains("(redacted)"), shown);
    }
  }

  @Test
  void aMessageWithinAnotherIsHiddenToo() {
    CheckScopeRequest inner = CheckScopeRequest.newBuilder().setApiKey(SECRET).build();
    BatchCheckScopeRequest outer = BatchCheckScopeRequest.newBuilder().addChecks(inner).build();
    assertFalse(outer.toString().contains(SECRET));
    assertFalse(outer.toBuilder().toString().contains(SECRET));
  }

  @Test
  void whatIsSentAndComparedIsWhole() throws InvalidProtocolBufferException {
    CreateKeyResponse message = CreateKeyResponse.newBuilder().setApiKey(SECRET).build();
    CreateKeyResponse again = CreateKeyResponse.parseFrom(message.toByteString());
    assertEquals(SECRET, again.getApiKey());
    assertEquals(message, again);
    assertEquals(SECRET, message.toBuilder().mergeFrom((Message) message).build().getApiKey());
    assertFalse(message.equals(CreateKeyResponse.newBuilder().setApiKey("other").build()));
  }
}
