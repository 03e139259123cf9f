package keyfence

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/keyfence/keyfence/clients/go/internal/redact"
)

// Secret is a key or a token in plaintext. It is never printed: fmt, slog and encoding/json
// show "(redacted)" in its place. string(secret) is the plaintext.
type Secret string

// Format prints "(redacted)", whatever the verb.
func (Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redact.Redacted) }

// LogValue logs "(redacted)".
func (Secret) LogValue() slog.Value { return slog.StringValue(redact.Redacted) }

// MarshalText writes "(redacted)".
func (Secret) MarshalText() ([]byte, error) { return []byte(redact.Redacted), nil }
