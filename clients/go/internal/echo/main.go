// Command echo is an empty gRPC server: the least that a unary call can cost in Go. The repository's
// benchmarks measure it beside other servers.
//
//	echo ADDRESS METHOD ANSWER_BYTES
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("want ADDRESS METHOD ANSWER_BYTES, got %d arguments", len(arguments))
	}
	size, err := strconv.Atoi(arguments[2])
	if err != nil || size < 0 {
		return fmt.Errorf("ANSWER_BYTES: want a number of bytes, got %q", arguments[2])
	}
	service, method, found := strings.Cut(strings.TrimPrefix(arguments[1], "/"), "/")
	if !found {
		return fmt.Errorf("METHOD: want /package.Service/Method, got %q", arguments[1])
	}
	listener, err := net.Listen("tcp", arguments[0])
	if err != nil {
		return err
	}
	answer := make([]byte, size)
	server := grpc.NewServer(grpc.ForceServerCodecV2(unencoded{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: method,
			Handler: func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var request []byte
				if err := read(&request); err != nil {
					return nil, err
				}
				return answer, nil
			},
		}},
	}, nil)
	return server.Serve(listener)
}

// unencoded passes on the bytes of requests and answers.
type unencoded struct{}

func (unencoded) Marshal(value any) (mem.BufferSlice, error) {
	message, ok := value.([]byte)
	if !ok {
		return nil, fmt.Errorf("want []byte, got %T", value)
	}
	return mem.BufferSlice{mem.SliceBuffer(message)}, nil
}

func (unencoded) Unmarshal(data mem.BufferSlice, value any) error {
	message, ok := value.(*[]byte)
	if !ok {
		return fmt.Errorf("want *[]byte, got %T", value)
	}
	*message = data.Materialize()
	return nil
}

func (unencoded) Name() string { return "unencoded" }
