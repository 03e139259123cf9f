// Package keyfencetest helps to test programs that use the Keyfence client: [NewServer] is a
// fake in memory that speaks the same API over a real socket, and [StartProcess] runs a real
// Keyfence.
package keyfencetest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// Token is the only credential that the fake takes. It may do everything.
const Token keyfence.Secret = "kf_system_fakefakefakefakefakefake"

// Server is a fake Keyfence. It knows keyspaces, scopes that imply each other, keys and their
// lifecycle, and grants leases to caches, so that revocations hold as with a real one. It knows no
// key formats, rate limits, accounts or audit log.
type Server struct {
	// Target is the server's address, for [keyfence.New].
	Target string

	fake *fake
}

// fake is the services, and their state.
type fake struct {
	keyfencev1.UnimplementedAuthorizationServiceServer
	keyfencev1.UnimplementedKeyServiceServer
	keyfencev1.UnimplementedKeyspaceServiceServer
	keyfencev1.UnimplementedReplicationServiceServer

	now func() time.Time

	mu        sync.Mutex
	changed   *sync.Cond
	revision  int64
	epoch     string
	ttl       time.Duration
	keyspaces map[string]*keyfencev1.Keyspace
	keys      map[string]*storedKey // by plaintext
	requests  map[string]string     // request id → key id
	holders   map[*holderStream]struct{}
	failures  []*failure
	calls     map[string]int
	uses      map[string]int64
}

type storedKey struct {
	record    *keyfencev1.Key
	plaintext string
}

type failure struct {
	method string
	err    error
	times  int
}

// NewServer starts a fake with these keyspaces. It stops when the test ends.
func NewServer(t testing.TB, keyspaces ...*keyfencev1.Keyspace) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("keyfencetest: %v", err)
	}
	server := &fake{
		now:       time.Now,
		epoch:     "1",
		ttl:       2 * time.Second,
		keyspaces: map[string]*keyfencev1.Keyspace{},
		keys:      map[string]*storedKey{},
		requests:  map[string]string{},
		holders:   map[*holderStream]struct{}{},
		calls:     map[string]int{},
		uses:      map[string]int64{},
	}
	server.changed = sync.NewCond(&server.mu)
	for _, keyspace := range keyspaces {
		server.revision++
		server.keyspaces[keyspace.Name] = keyspace
	}
	grpcServer := grpc.NewServer(
		grpc.ChainUnaryInterceptor(server.intercept), grpc.ChainStreamInterceptor(server.interceptStream))
	keyfencev1.RegisterAuthorizationServiceServer(grpcServer, server)
	keyfencev1.RegisterKeyServiceServer(grpcServer, server)
	keyfencev1.RegisterKeyspaceServiceServer(grpcServer, server)
	keyfencev1.RegisterReplicationServiceServer(grpcServer, server)
	go func() { _ = grpcServer.Serve(listener) }()
	t.Cleanup(grpcServer.Stop)
	return &Server{Target: listener.Addr().String(), fake: server}
}

// Keyspace declares a keyspace whose scopes imply nothing.
func Keyspace(name string, scopes ...string) *keyfencev1.Keyspace {
	keyspace := &keyfencev1.Keyspace{Name: name}
	for _, scope := range scopes {
		keyspace.Scopes = append(keyspace.Scopes, &keyfencev1.Scope{Name: scope})
	}
	return keyspace
}

// Client is a client of the fake. It is closed when the test ends.
func (s *Server) Client(t testing.TB, options ...keyfence.Option) *keyfence.Client {
	t.Helper()
	client, err := keyfence.New(s.Target, append([]keyfence.Option{keyfence.WithToken(Token)}, options...)...)
	if err != nil {
		t.Fatalf("keyfencetest: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// CreateKey makes a key and returns its plaintext and its id.
func (s *Server) CreateKey(t testing.TB, keyspace string, scopes ...string) (plaintext keyfence.Secret, keyID string) {
	t.Helper()
	made, err := s.fake.CreateKey(context.Background(), &keyfencev1.CreateKeyRequest{
		Keyspace: keyspace, AccountId: "acct_1", Scopes: scopes,
	})
	if err != nil {
		t.Fatalf("keyfencetest: %v", err)
	}
	return keyfence.Secret(made.ApiKey), made.Key.KeyId
}

// RevokeKey revokes a key. When it returns, no cache accepts the key.
func (s *Server) RevokeKey(t testing.TB, keyID string) {
	t.Helper()
	if _, err := s.fake.RevokeKey(context.Background(), &keyfencev1.RevokeKeyRequest{KeyId: keyID}); err != nil {
		t.Fatalf("keyfencetest: %v", err)
	}
}

// SetTime makes keys expire by another clock.
func (s *Server) SetTime(now func() time.Time) {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	s.fake.now = now
}

// FailNext makes the next calls of a method fail, for example of
// keyfencev1.AuthorizationService_CheckScope_FullMethodName.
func (s *Server) FailNext(method string, times int, err error) {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	s.fake.failures = append(s.fake.failures, &failure{method, err, times})
}

// Calls is how often a method was called.
func (s *Server) Calls(method string) int {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	return s.fake.calls[method]
}

// Uses is how many uses of a key caches have reported.
func (s *Server) Uses(keyID string) int64 {
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	return s.fake.uses[keyID]
}

// Error makes an error as Keyfence answers it.
func Error(code codes.Code, reason, message string, metadata map[string]string) error {
	made, err := status.New(code, message).WithDetails(
		&errdetails.ErrorInfo{Domain: "keyfence", Reason: reason, Metadata: metadata})
	if err != nil {
		return status.Error(code, message)
	}
	return made.Err()
}

func (s *fake) admit(ctx context.Context, method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[method]++
	for _, one := range s.failures {
		if one.method == method && one.times > 0 {
			one.times--
			return one.err
		}
	}
	return authenticated(ctx)
}

func (s *fake) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := s.admit(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (s *fake) interceptStream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := s.admit(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return handle(service, stream)
}

// find has the key of a plaintext. Called under the lock.
func (s *fake) findByID(keyID string) (*storedKey, error) {
	for _, stored := range s.keys {
		if stored.record.KeyId == keyID {
			return stored, nil
		}
	}
	return nil, Error(codes.NotFound, "KEY_NOT_FOUND", "there is no key "+keyID, nil)
}

// effective are the registered scopes that the granted ones come to. Called under the lock.
func (s *fake) effective(keyspace string, granted []string) []string {
	declared := map[string]*keyfencev1.Scope{}
	for _, scope := range s.keyspaces[keyspace].GetScopes() {
		declared[scope.Name] = scope
	}
	held := map[string]bool{}
	var hold func(string)
	hold = func(name string) {
		if scope, ok := declared[name]; ok && !held[name] {
			held[name] = true
			for _, implied := range scope.Implies {
				hold(implied)
			}
		}
	}
	for _, grant := range granted {
		for name := range declared {
			if covers(grant, name) {
				hold(name)
			}
		}
	}
	var scopes []string
	for name := range held {
		scopes = append(scopes, name)
	}
	slices.Sort(scopes)
	return scopes
}
