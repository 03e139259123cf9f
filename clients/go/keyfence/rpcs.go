package keyfence

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const requestIDField = "request_id"

// rpc is what the client knows of an RPC. It is read off the API's descriptors, so that no
// table here can disagree with them.
type rpc struct {
	service, method string
	// isCheck: its callers wait, so its deadline is short.
	isCheck bool
	// takesRequestID: the server carries the request out once for each id.
	takesRequestID bool
	// isRepeatable: sending the same request again does no harm.
	isRepeatable bool
}

var rpcs = describedRPCs(
	keyfencev1.File_keyfence_v1_authorization_service_proto,
	keyfencev1.File_keyfence_v1_key_service_proto,
	keyfencev1.File_keyfence_v1_keyspace_service_proto,
	keyfencev1.File_keyfence_v1_account_service_proto,
	keyfencev1.File_keyfence_v1_audit_service_proto,
	keyfencev1.File_keyfence_v1_replication_service_proto,
)

func describedRPCs(files ...protoreflect.FileDescriptor) map[string]rpc {
	described := map[string]rpc{}
	for _, file := range files {
		for index := range file.Services().Len() {
			service := file.Services().Get(index)
			for index := range service.Methods().Len() {
				method := service.Methods().Get(index)
				if method.IsStreamingClient() || method.IsStreamingServer() {
					continue
				}
				one := describe(service, method)
				described["/"+one.service+"/"+one.method] = one
			}
		}
	}
	return described
}

func describe(service protoreflect.ServiceDescriptor, method protoreflect.MethodDescriptor) rpc {
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	takesRequestID := method.Input().Fields().ByName(requestIDField) != nil
	return rpc{
		service:        string(service.FullName()),
		method:         string(method.Name()),
		isCheck:        service.Name() == "AuthorizationService" || method.Name() == "FetchFacts",
		takesRequestID: takesRequestID,
		isRepeatable: takesRequestID ||
			options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN,
	}
}

// serviceConfig says how calls are spread over the servers. Which calls are sent again, and when, is
// in repeat.go.
func serviceConfig(balancing string) string {
	return `{"loadBalancingConfig": [{"` + balancing + `": {}}]}`
}
