package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/keyfence/keyfence/clients/go/keyfence"
)

// Options say how a [Guard] guards.
type Options struct {
	// Keyspace is the one whose keys are accepted.
	Keyspace string
	// Unguarded is what anybody may call: methods ("/package.Service/Method") and whole services
	// ("package.Service").
	Unguarded []string
	// ClientAddress tells where a call comes from, for keys with an allow-list. Nil: the other
	// end of the connection, which behind a proxy is the proxy.
	ClientAddress func(context.Context) string
	// HideMissingScopes leaves out of the answer which scopes a key lacks.
	HideMissingScopes bool
	// Logger is told what is wrong with the guard. Nil: slog.Default().
	Logger *slog.Logger
}

// One answer for a key that is missing, malformed, unknown, revoked, expired, disabled or used from
// a wrong address: the answer must not tell which keys exist.
var (
	errNoGoodKey = status.Error(codes.Unauthenticated, "a valid API key is required")
	errNotOpen   = status.Error(codes.PermissionDenied, "this method is not open to callers")
	errTooMany   = status.Error(codes.ResourceExhausted, "too many requests")
	errAway      = status.Error(codes.Unavailable, "authorization is unavailable at the moment; try again")
	errBroken    = status.Error(codes.Internal, "authorization is not set up correctly")
)

// Guard enforces what the protos of gRPC services declare: required_scope, or
// ACCESS_ANY_CREDENTIAL. A method that declares nothing and is not unguarded is refused to all.
//
// The key comes as "authorization: Bearer ..." or "x-api-key"; exactly one is accepted. A stream is
// checked when it begins, and goes on if its key is revoked later.
type Guard struct {
	client    Client
	options   Options
	logger    *slog.Logger
	unguarded map[string]bool
}

// New makes a guard.
func New(client Client, options Options) (*Guard, error) {
	if options.Keyspace == "" {
		return nil, errors.New("keyfence/guard: a guard needs the keyspace whose keys it accepts")
	}
	guard := &Guard{client: client, options: options, logger: logger(options.Logger), unguarded: map[string]bool{}}
	for _, name := range options.Unguarded {
		guard.unguarded[name] = true
	}
	return guard, nil
}

// Unary is the interceptor for unary calls.
func (g *Guard) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		ctx, err := g.admit(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		return handle(ctx, request)
	}
}

// Stream is the interceptor for streams.
func (g *Guard) Stream() grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		ctx, err := g.admit(stream.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		return handle(service, guardedStream{stream, ctx})
	}
}

type guardedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // it replaces the stream's own
}

func (s guardedStream) Context() context.Context { return s.ctx }

// Verify says what is wrong with the guarded services of a server, after they are registered:
// methods that declare nothing, and scopes that the keyspace does not register.
func (g *Guard) Verify(ctx context.Context, server *grpc.Server) error {
	var wrong []error
	var scopes []string
	for service, info := range server.GetServiceInfo() {
		for _, method := range info.Methods {
			path := "/" + service + "/" + method.Name
			if g.isUnguarded(path) {
				continue
			}
			demanded, ok := findRule(path)
			switch {
			case !ok:
				wrong = append(wrong, fmt.Errorf("keyfence/guard: %s declares no required_scope and is not unguarded", path))
			case demanded.scope != "":
				scopes = append(scopes, demanded.scope)
			}
		}
	}
	return errors.Join(append(wrong, verifyScopes(ctx, g.client, g.options.Keyspace, scopes))...)
}

func (g *Guard) isUnguarded(path string) bool {
	service, _, _ := splitPath(path)
	return g.unguarded[path] || g.unguarded[service]
}

func (g *Guard) admit(ctx context.Context, path string) (context.Context, error) {
	if g.isUnguarded(path) {
		return ctx, nil
	}
	demanded, ok := findRule(path)
	if !ok {
		g.logger.ErrorContext(ctx, "method_refused_to_all", "method", path, "cause", "it declares no required_scope")
		return nil, errNotOpen
	}
	check := keyfence.Check{Keyspace: g.options.Keyspace, ClientAddress: g.clientAddress(ctx)}
	check.APIKey, ok = presentedKey(ctx)
	if !ok {
		return nil, errNoGoodKey
	}
	if demanded.scope != "" {
		check.RequiredScopes = []string{demanded.scope}
	}
	verdict, err := ask(ctx, g.client, check)
	if err != nil {
		g.logger.ErrorContext(ctx, "no_verdict", "method", path, "cause", err.Error())
		if isPassing(err) {
			return nil, errAway
		}
		return nil, errBroken
	}
	if err := g.refusal(verdict); err != nil {
		return nil, err
	}
	return withPrincipal(ctx, verdict.Principal), nil
}

func (g *Guard) refusal(verdict keyfence.Verdict) error {
	switch {
	case verdict.Allowed && verdict.Principal != nil:
		return nil
	case verdict.Reason == keyfence.ReasonScopeMissing && !g.options.HideMissingScopes:
		return status.Errorf(codes.PermissionDenied, "the API key lacks: %s", strings.Join(verdict.MissingScopes, ", "))
	case verdict.Reason == keyfence.ReasonScopeMissing:
		return status.Error(codes.PermissionDenied, "the API key lacks a required scope")
	case verdict.Reason == keyfence.ReasonRateLimited:
		return errTooMany
	default:
		return errNoGoodKey
	}
}

func (g *Guard) clientAddress(ctx context.Context) string {
	if g.options.ClientAddress != nil {
		return g.options.ClientAddress(ctx)
	}
	if other, ok := peer.FromContext(ctx); ok {
		return hostOf(other.Addr.String())
	}
	return ""
}

// presentedKey is the one key of a call. False: there is none, or more than one. Where a gateway and
// a service read different ones of two credentials, one of them guards nothing.
func presentedKey(ctx context.Context) (keyfence.Secret, bool) {
	bearers := metadata.ValueFromIncomingContext(ctx, "authorization")
	plain := metadata.ValueFromIncomingContext(ctx, "x-api-key")
	switch {
	case len(bearers)+len(plain) != 1:
		return "", false
	case len(plain) == 1:
		return keyfence.Secret(plain[0]), plain[0] != ""
	default:
		return bearer(bearers[0])
	}
}

func bearer(header string) (keyfence.Secret, bool) {
	scheme, key, _ := strings.Cut(header, " ")
	key = strings.TrimSpace(key)
	return keyfence.Secret(key), strings.EqualFold(scheme, "bearer") && key != ""
}
