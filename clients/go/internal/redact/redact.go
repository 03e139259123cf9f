// Package redact prints protobuf messages without the fields that their protos mark as
// debug_redact. The generated messages of the API call it.
package redact

import (
	"fmt"
	"io"
	"log/slog"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Redacted stands where a secret was.
const Redacted = "(redacted)"

// Text is the message as one line of text.
func Text(message proto.Message) string {
	return prototext.MarshalOptions{AllowPartial: true}.Format(Copy(message))
}

// Format prints the message, whatever the verb.
func Format(message proto.Message, state fmt.State, _ rune) {
	_, _ = io.WriteString(state, Text(message))
}

// LogValue is the message as slog logs it.
func LogValue(message proto.Message) slog.Value {
	return slog.StringValue(Text(message))
}

// MarshalJSON is the message as protojson writes it.
func MarshalJSON(message proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{AllowPartial: true}.Marshal(Copy(message))
}

// Copy is the message without its secrets; the message itself, if it holds none.
func Copy(message proto.Message) proto.Message {
	if !message.ProtoReflect().IsValid() || !holdsSecret(message.ProtoReflect()) {
		return message
	}
	copied := proto.Clone(message)
	redact(copied.ProtoReflect())
	return copied
}

func holdsSecret(message protoreflect.Message) bool {
	found := false
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		found = isSecret(field)
		eachMessage(field, value, func(inner protoreflect.Message) { found = found || holdsSecret(inner) })
		return !found
	})
	return found
}

func redact(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case !isSecret(field):
			eachMessage(field, value, redact)
		case field.Kind() == protoreflect.StringKind && !field.IsList():
			message.Set(field, protoreflect.ValueOfString(Redacted))
		case field.Kind() == protoreflect.BytesKind && !field.IsList():
			message.Set(field, protoreflect.ValueOfBytes([]byte(Redacted)))
		default:
			// Lists and whatever else a later proto may mark: left out.
			message.Clear(field)
		}
		return true
	})
}

func isSecret(field protoreflect.FieldDescriptor) bool {
	options, _ := field.Options().(*descriptorpb.FieldOptions)
	return options.GetDebugRedact()
}

func eachMessage(field protoreflect.FieldDescriptor, value protoreflect.Value, visit func(protoreflect.Message)) {
	switch {
	case field.IsMap():
		if field.MapValue().Message() != nil {
			value.Map().Range(func(_ protoreflect.MapKey, inner protoreflect.Value) bool {
				visit(inner.Message())
				return true
			})
		}
	case field.Message() == nil:
	case field.IsList():
		for index := range value.List().Len() {
			visit(value.List().Get(index).Message())
		}
	default:
		visit(value.Message())
	}
}

// Secrets are the texts that the message holds in fields marked as debug_redact.
func Secrets(message proto.Message) []string {
	var found []string
	var collect func(protoreflect.Message)
	collect = func(message protoreflect.Message) {
		message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
			if isSecret(field) && field.Kind() == protoreflect.StringKind && !field.IsList() {
				found = append(found, value.String())
			}
			eachMessage(field, value, collect)
			return true
		})
	}
	collect(message.ProtoReflect())
	return found
}
