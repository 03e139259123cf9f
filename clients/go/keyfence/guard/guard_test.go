package guard_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keyfence/keyfence/clients/go/keyfence"
	"github.com/keyfence/keyfence/clients/go/keyfence/guard"
	"github.com/keyfence/keyfence/clients/go/keyfence/keyfencetest"
	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// product is a guarded service: Keyfence's own protos, whose options are as those of any product.
type product struct {
	keyfencev1.UnimplementedKeyServiceServer
	keyfencev1.UnimplementedAuthorizationServiceServer
	keyfencev1.UnimplementedReplicationServiceServer
	caller string
}

func (p *product) ListKeys(ctx context.Context, _ *keyfencev1.ListKeysRequest) (*keyfencev1.ListKeysResponse, error) {
	principal, _ := guard.PrincipalFrom(ctx)
	p.caller = principal.GetKeyId()
	return &keyfencev1.ListKeysResponse{}, nil
}

func (p *product) WhoAmI(context.Context, *keyfencev1.WhoAmIRequest) (*keyfencev1.WhoAmIResponse, error) {
	return &keyfencev1.WhoAmIResponse{}, nil
}

func (p *product) Sync(stream keyfencev1.ReplicationService_SyncServer) error {
	principal, _ := guard.PrincipalFrom(stream.Context())
	p.caller = principal.GetKeyId()
	return nil
}

type guarded struct {
	*product
	keyfence *keyfencetest.Server
	conn     *grpc.ClientConn
	guard    *guard.Guard
	server   *grpc.Server
}

func startGuarded(t *testing.T, options guard.Options, scopes ...string) *guarded {
	t.Helper()
	server := keyfencetest.NewServer(t, keyfencetest.Keyspace("demo", scopes...))
	options.Keyspace = "demo"
	made, err := guard.New(server.Client(t), options)
	if err != nil {
		t.Fatal(err)
	}
	grpcServer := grpc.NewServer(grpc.ChainUnaryInterceptor(made.Unary()), grpc.ChainStreamInterceptor(made.Stream()))
	serving := &product{}
	keyfencev1.RegisterKeyServiceServer(grpcServer, serving)
	keyfencev1.RegisterAuthorizationServiceServer(grpcServer, serving)
	keyfencev1.RegisterReplicationServiceServer(grpcServer, serving)
	healthv1.RegisterHealthServer(grpcServer, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = grpcServer.Serve(listener) }()
	t.Cleanup(grpcServer.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &guarded{serving, server, conn, made, grpcServer}
}

func (g *guarded) list(t *testing.T, pairs ...string) error {
	_, err := keyfencev1.NewKeyServiceClient(g.conn).ListKeys(
		metadata.AppendToOutgoingContext(t.Context(), pairs...), &keyfencev1.ListKeysRequest{})
	return err
}

func TestAnRPCDemandsTheScopeThatItsProtoNames(t *testing.T) {
	service := startGuarded(t, guard.Options{}, "keys:read", "keys:write", "replication:sync")
	good, goodID := service.keyfence.CreateKey(t, "demo", "keys:read", "replication:sync")
	poor, poorID := service.keyfence.CreateKey(t, "demo", "keys:write")

	if err := service.list(t, "authorization", "Bearer "+string(good)); err != nil || service.caller != goodID {
		t.Errorf("a good key: %v, of %q", err, service.caller)
	}
	if err := service.list(t, "x-api-key", string(good)); err != nil {
		t.Errorf("a key in x-api-key: %v", err)
	}
	err := service.list(t, "authorization", "Bearer "+string(poor))
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "keys:read") {
		t.Errorf("a key without the scope: %v", err)
	}
	service.keyfence.RevokeKey(t, poorID)
	want := status.Convert(service.list(t)).Message()
	for name, pairs := range map[string][]string{
		"none":           nil,
		"unknown":        {"authorization", "Bearer kf_live_unknown"},
		"malformed":      {"x-api-key", "?"},
		"revoked":        {"x-api-key", string(poor)},
		"two":            {"x-api-key", string(good), "authorization", "Bearer " + string(good)},
		"twice":          {"x-api-key", string(good), "x-api-key", string(good)},
		"another scheme": {"authorization", "Basic " + string(good)},
	} {
		if err := service.list(t, pairs...); status.Code(err) != codes.Unauthenticated || status.Convert(err).Message() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStreamDemandsItToo(t *testing.T) {
	service := startGuarded(t, guard.Options{}, "replication:sync")
	good, goodID := service.keyfence.CreateKey(t, "demo", "replication:sync")
	poor, _ := service.keyfence.CreateKey(t, "demo")
	open := func(key keyfence.Secret) codes.Code {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", string(key))
		stream, err := keyfencev1.NewReplicationServiceClient(service.conn).Sync(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		return status.Code(err)
	}
	if code := open(poor); code != codes.PermissionDenied {
		t.Errorf("a key without the scope: %v", code)
	}
	if open(good); service.caller != goodID {
		t.Errorf("a good key was taken for %q", service.caller)
	}
}

func TestWhatDeclaresNothingIsRefusedUnlessItIsUnguarded(t *testing.T) {
	closed := startGuarded(t, guard.Options{}, "keys:read")
	good, _ := closed.keyfence.CreateKey(t, "demo", "*")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", string(good))
	_, err := healthv1.NewHealthClient(closed.conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a method that declares nothing: %v", err)
	}
	// ACCESS_ANY_CREDENTIAL: any good key, and none without.
	ask := keyfencev1.NewAuthorizationServiceClient(closed.conn)
	if _, err := ask.WhoAmI(ctx, &keyfencev1.WhoAmIRequest{}); err != nil {
		t.Errorf("any good key: %v", err)
	}
	if _, err := ask.WhoAmI(t.Context(), &keyfencev1.WhoAmIRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("no key: %v", err)
	}
	open := startGuarded(t, guard.Options{Unguarded: []string{"grpc.health.v1.Health"}})
	if _, err := healthv1.NewHealthClient(open.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("an unguarded service: %v", err)
	}
}

func TestWithoutAVerdictNothingIsDenied(t *testing.T) {
	service := startGuarded(t, guard.Options{}, "keys:read")
	good, _ := service.keyfence.CreateKey(t, "demo", "keys:read")
	const check = keyfencev1.AuthorizationService_CheckScope_FullMethodName
	service.keyfence.FailNext(check, 1, keyfencetest.Error(codes.PermissionDenied, "SCOPE_REQUIRED", "no keys:check", nil))
	if err := service.list(t, "x-api-key", string(good)); status.Code(err) != codes.Internal {
		t.Errorf("the guard's own credential is not good: %v", err)
	}
	service.keyfence.FailNext(check, 1_000, keyfencetest.Error(codes.Unavailable, "STORE_UNAVAILABLE", "away", nil))
	if err := service.list(t, "x-api-key", string(good)); status.Code(err) != codes.Unavailable {
		t.Errorf("Keyfence is away: %v", err)
	}
}

func TestTheScopesAreVerifiedAtTheStart(t *testing.T) {
	service := startGuarded(t, guard.Options{Unguarded: []string{"grpc.health.v1.Health"}},
		"keys:read", "keys:write", "keys:check", "replication:sync")
	err := service.guard.Verify(t.Context(), service.server)
	if err == nil || !strings.Contains(err.Error(), `"replication:read"`) || strings.Contains(err.Error(), `"keys:read"`) {
		t.Errorf("one scope is not registered: %v", err)
	}
	unsure := startGuarded(t, guard.Options{}, "keys:read", "keys:write", "keys:check", "replication:sync", "replication:read")
	err = unsure.guard.Verify(t.Context(), unsure.server)
	if err == nil || !strings.Contains(err.Error(), "/grpc.health.v1.Health/Check declares no required_scope") {
		t.Errorf("a method declares nothing: %v", err)
	}
	whole := startGuarded(t, guard.Options{Unguarded: []string{"grpc.health.v1.Health"}},
		"keys:read", "keys:write", "keys:check", "replication:sync", "replication:read")
	if err := whole.guard.Verify(t.Context(), whole.server); err != nil {
		t.Errorf("nothing is wrong: %v", err)
	}
}
