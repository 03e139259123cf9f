package keyfence

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keyfence/keyfence/clients/go/internal/redact"
)

// ErrClosed is what calls of a closed client return.
var ErrClosed = errors.New("keyfence: the client is closed")

// shortestSecret bounds what is cut out of messages: what is shorter is no key.
const shortestSecret = 8

// Error says why there was no answer. It shows neither the client's token nor the key that
// was asked about, and is no denial: fail closed, and tell it from one.
//
// errors.Is(err, context.DeadlineExceeded) and errors.Is(err, context.Canceled) hold for
// errors with those codes.
type Error struct {
	// Code is the gRPC status code.
	Code codes.Code
	// Reason is the name of an error of docs/errors.md, for example "UNKNOWN_SCOPE". Empty if
	// the error is not one of Keyfence's.
	Reason string
	// Message says what was wrong and what to do, for a developer.
	Message string
	// Metadata is what the reason comes with, for example "nearest" for UNKNOWN_SCOPE.
	Metadata map[string]string
	// Violations are the faults in fields of the request.
	Violations []Violation
	// RequestID is the id under which the server's log has the call. Empty: unknown.
	RequestID string
}

// Violation is a fault in one field of a request.
type Violation struct {
	Field       string
	Description string
}

// Error is the message with the code, the reason and the request id.
func (e *Error) Error() string {
	text := "keyfence: " + e.Code.String()
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	text += ": " + e.Message
	for _, violation := range e.Violations {
		text += fmt.Sprintf("; %s: %s", violation.Field, violation.Description)
	}
	if e.RequestID != "" {
		text += " [request " + e.RequestID + "]"
	}
	return text
}

// Unwrap is the context's error that the code stands for, if it stands for one.
func (e *Error) Unwrap() error {
	switch e.Code {
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	default:
		return nil
	}
}

// GRPCStatus makes google.golang.org/grpc/status understand the error.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// newError makes the error for a failed call. Secrets are cut out of all that it shows.
func newError(ctx context.Context, err error, trailer metadata.MD, secrets ...string) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	state, _ := status.FromError(err)
	made := &Error{Code: state.Code(), Message: state.Message()}
	if made.Code == codes.Canceled && ctx.Err() == nil {
		// The server gave the call up: it is flooded, or was stopped.
		made.Code = codes.Unavailable
	}
	readDetails(made, state.Proto())
	if id := trailer.Get("x-request-id"); len(id) > 0 {
		made.RequestID = id[0]
	}
	if made.RequestID == "" {
		made.RequestID = made.Metadata["request_id"]
	}
	return cleaned(made, secrets)
}

func errorOfCheck(code int32, reason, message string, details map[string]string, secrets ...string) error {
	return cleaned(&Error{Code: codes.Code(code), Reason: reason, Message: message, Metadata: maps.Clone(details)}, secrets) //nolint:gosec // the server's code
}

func readDetails(made *Error, proto *spb.Status) {
	for _, detail := range proto.GetDetails() {
		// A broken detail must not hide the status.
		var info errdetails.ErrorInfo
		var request errdetails.BadRequest
		switch {
		case detail.MessageIs(&info) && detail.UnmarshalTo(&info) == nil && info.Domain == "keyfence":
			made.Reason, made.Metadata = info.Reason, info.Metadata
		case detail.MessageIs(&request) && detail.UnmarshalTo(&request) == nil:
			for _, violation := range request.FieldViolations {
				made.Violations = append(made.Violations, Violation{violation.Field, violation.Description})
			}
		}
	}
}

func cleaned(made *Error, secrets []string) error {
	secrets = slices.DeleteFunc(secrets, func(secret string) bool { return len(secret) < shortestSecret })
	clean := func(text string) string {
		for _, secret := range secrets {
			text = strings.ReplaceAll(text, secret, redact.Redacted)
		}
		return text
	}
	made.Reason, made.Message, made.RequestID = clean(made.Reason), clean(made.Message), clean(made.RequestID)
	if made.Message == "" {
		made.Message = "the call failed"
	}
	for name, value := range made.Metadata {
		if cleanName := clean(name); cleanName != name {
			delete(made.Metadata, name)
			name = cleanName
		}
		made.Metadata[name] = clean(value)
	}
	for index, violation := range made.Violations {
		made.Violations[index] = Violation{clean(violation.Field), clean(violation.Description)}
	}
	return made
}
