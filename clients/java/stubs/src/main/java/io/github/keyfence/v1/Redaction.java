package io.github.keyfence.v1;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.FieldDescriptor.JavaType;
import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;

/**
 * Hides the fields that the protos mark as {@code debug_redact}. Generated messages call it for
 * everything that reads them by reflection: {@code toString()}, {@code TextFormat} and {@code
 * JsonFormat}. Getters, {@code equals} and what is sent are not concerned.
 */
final class Redaction {
  private static final String REDACTED = "(redacted)";

  private Redaction() {}

  static Map<FieldDescriptor, Object> hide(Map<FieldDescriptor, Object> fields) {
    Map<FieldDescriptor, Object> shown = null;
    for (FieldDescriptor field : fields.keySet()) {
      if (!field.getOptions().getDebugRedact()) {
        continue;
      }
      if (shown == null) {
        shown = new TreeMap<>(fields);
      }
      if (field.getJavaType() == JavaType.STRING && !field.isRepeated()) {
        shown.put(field, REDACTED);
      } else {
        // Lists, and whatever else a later proto may mark, are left out.
        shown.remove(field);
      }
    }
    return shown == null ? fields : Collections.unmodifiableMap(shown);
  }
}
