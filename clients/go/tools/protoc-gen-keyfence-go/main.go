// Command protoc-gen-keyfence-go generates what protoc-gen-go does, with one difference:
// no generated message prints a field that its proto marks as debug_redact.
//
// protoc-gen-go ignores that option. Its String is replaced, and messages that can hold such
// a field, themselves or in a message within them, get methods for fmt, slog and encoding/json.
package main

import (
	"go/format"
	"strings"

	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	protoimpl  = `	protoimpl "google.golang.org/protobuf/runtime/protoimpl"` + "\n"
	redactPath = protogen.GoImportPath("github.com/keyfence/keyfence/clients/go/internal/redact")
	printed    = "protoimpl.X.MessageStringOf(x)"
)

func main() {
	protogen.Options{}.Run(func(plugin *protogen.Plugin) error {
		plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		for _, file := range plugin.Files {
			if !file.Generate {
				continue
			}
			if err := generate(plugin, file); err != nil {
				return err
			}
		}
		return nil
	})
}

func generate(plugin *protogen.Plugin, file *protogen.File) error {
	plain := internal_gengo.GenerateFile(plugin, file)
	for _, message := range file.Messages {
		if canHoldSecret(message, map[*protogen.Message]bool{}) {
			redactedMethods(plain, message)
		}
	}
	content, err := plain.Content()
	if err != nil {
		return err
	}
	plain.Skip()
	text := strings.ReplaceAll(string(content), printed, "redact.Text(x)")
	if text != string(content) && !strings.Contains(text, `redact "`) {
		text = strings.Replace(text, protoimpl, `	redact `+redactPath.String()+"\n"+protoimpl, 1)
	}
	formatted, err := format.Source([]byte(text))
	if err != nil {
		return err
	}
	_, err = plugin.NewGeneratedFile(file.GeneratedFilenamePrefix+".pb.go", file.GoImportPath).Write(formatted)
	return err
}

func redactedMethods(out *protogen.GeneratedFile, message *protogen.Message) {
	name := message.GoIdent.GoName
	call := func(function string) string { return out.QualifiedGoIdent(redactPath.Ident(function)) }
	state := out.QualifiedGoIdent(protogen.GoImportPath("fmt").Ident("State"))
	value := out.QualifiedGoIdent(protogen.GoImportPath("log/slog").Ident("Value"))
	out.P("// Format prints the message without its secrets.")
	out.P("func (x *", name, ") Format(state ", state, ", verb rune) { ", call("Format"), "(x, state, verb) }")
	out.P()
	out.P("// LogValue logs the message without its secrets.")
	out.P("func (x *", name, ") LogValue() ", value, " { return ", call("LogValue"), "(x) }")
	out.P()
	out.P("// MarshalJSON writes the message without its secrets, for logs that write JSON; protojson writes all of it.")
	out.P("func (x *", name, ") MarshalJSON() ([]byte, error) { return ", call("MarshalJSON"), "(x) }")
	out.P()
}

func canHoldSecret(message *protogen.Message, seen map[*protogen.Message]bool) bool {
	if seen[message] {
		return false
	}
	seen[message] = true
	for _, field := range message.Fields {
		if field.Desc.Options().(*descriptorpb.FieldOptions).GetDebugRedact() {
			return true
		}
		if field.Message != nil && canHoldSecret(field.Message, seen) {
			return true
		}
	}
	return false
}
