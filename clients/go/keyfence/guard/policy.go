// Package guard lets only callers with a good key through: [Guard] before gRPC services, by what
// their protos declare, and [HTTP] before HTTP handlers, in the words of the keyspace.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// Client is what a guard asks: a *keyfence.Client.
type Client interface {
	Authenticate(context.Context, keyfence.Check) (keyfence.Verdict, error)
	CheckScope(context.Context, keyfence.Check) (keyfence.Verdict, error)
	BatchCheckScope(context.Context, []keyfence.Check) ([]keyfence.Result, error)
}

var _ Client = (*keyfence.Client)(nil)

type principalKey struct{}

// PrincipalFrom tells whose key the guarded call was made with; false outside of one.
func PrincipalFrom(ctx context.Context) (*keyfence.Principal, bool) {
	principal, ok := ctx.Value(principalKey{}).(*keyfence.Principal)
	return principal, ok
}

func withPrincipal(ctx context.Context, principal *keyfence.Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, principal)
}

// rule is what an RPC demands. Without a scope: any good key.
type rule struct{ scope string }

// ruleOf reads the method's options. Where they say two things, the stricter counts. False: they
// say nothing that a guard understands.
func ruleOf(method protoreflect.MethodDescriptor) (rule, bool) {
	options := method.Options()
	if scope, _ := proto.GetExtension(options, keyfencev1.E_RequiredScope).(string); scope != "" {
		return rule{scope}, true
	}
	access, _ := proto.GetExtension(options, keyfencev1.E_Access).(keyfencev1.Access)
	return rule{}, access == keyfencev1.Access_ACCESS_ANY_CREDENTIAL
}

// findRule is what the method of a path demands, by the descriptors that the program has. False:
// no caller may call it.
func findRule(path string) (rule, bool) {
	service, name, ok := splitPath(path)
	if !ok {
		return rule{}, false
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return rule{}, false
	}
	described, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return rule{}, false
	}
	method := described.Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return rule{}, false
	}
	return ruleOf(method)
}

func splitPath(path string) (service, method string, ok bool) {
	rest, rooted := strings.CutPrefix(path, "/")
	service, method, found := strings.Cut(rest, "/")
	return service, method, rooted && found && service != "" && method != "" && !strings.Contains(method, "/")
}

// ask asks for the verdict on a key.
func ask(ctx context.Context, client Client, check keyfence.Check) (keyfence.Verdict, error) {
	if len(check.RequiredScopes) == 0 {
		return client.Authenticate(ctx, check)
	}
	return client.CheckScope(ctx, check)
}

// isPassing says whether an error may be gone when the call is made again.
func isPassing(err error) bool {
	var failed *keyfence.Error
	return errors.As(err, &failed) && slices.Contains(
		[]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Canceled}, failed.Code)
}

// verifyScopes says which of the scopes the keyspace does not register. It asks about no key, which
// needs no more than the scope "keys:check": the server looks at the scopes first.
func verifyScopes(ctx context.Context, client Client, keyspace string, scopes []string) error {
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	var unknown []error
	for batch := range slices.Chunk(scopes, 256) {
		var checks []keyfence.Check
		for _, scope := range batch {
			checks = append(checks, keyfence.Check{Keyspace: keyspace, RequiredScopes: []string{scope}})
		}
		results, err := client.BatchCheckScope(ctx, checks)
		if err != nil {
			return fmt.Errorf("keyfence/guard: the scopes could not be verified: %w", err)
		}
		for index, result := range results {
			if result.Err != nil {
				unknown = append(unknown, fmt.Errorf("keyfence/guard: scope %q of keyspace %q: %w", batch[index], keyspace, result.Err))
			}
		}
	}
	return errors.Join(unknown...)
}

func logger(given *slog.Logger) *slog.Logger {
	if given != nil {
		return given
	}
	return slog.Default()
}

// hostOf is the address without its port; empty if it has none that is an IP address.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	parsed, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return parsed.WithZone("").Unmap().String()
}
