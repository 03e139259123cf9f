// Command orders is the shop's service of orders. It calls the stock with its caller's key.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"example.com/polyglot/orders/stubs"
	"github.com/keyfence/keyfence/clients/go/keyfence"
	"github.com/keyfence/keyfence/clients/go/keyfence/guard"
)

const name = "orders (Go)"

type orders struct {
	stubs.UnimplementedOrderServiceServer
	stock stubs.StockServiceClient
}

func (o *orders) PlaceOrder(ctx context.Context, request *stubs.PlaceOrderRequest) (*stubs.PlaceOrderResponse, error) {
	// The guard has made sure that there is exactly one.
	key := metadata.ValueFromIncomingContext(ctx, "authorization")[0]
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", key)
	reserved, err := o.stock.ReserveItem(ctx, &stubs.ReserveItemRequest{OrderId: request.OrderId})
	if err != nil {
		return nil, err
	}
	return &stubs.PlaceOrderResponse{HandledBy: append([]string{name}, reserved.HandledBy...)}, nil
}

func (o *orders) GetOrder(context.Context, *stubs.GetOrderRequest) (*stubs.GetOrderResponse, error) {
	return &stubs.GetOrderResponse{HandledBy: []string{name}}, nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	client, err := keyfence.New("", keyfence.WithCache(keyfence.Cache{}))
	if err != nil {
		return err
	}
	defer client.Close()
	guarding, err := guard.New(client, guard.Options{Keyspace: "shop"})
	if err != nil {
		return err
	}
	// The connection to the stock stays on this machine.
	stock, err := grpc.NewClient(os.Getenv("STOCK_TARGET"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer stock.Close()
	server := grpc.NewServer(grpc.UnaryInterceptor(guarding.Unary()))
	stubs.RegisterOrderServiceServer(server, &orders{stock: stubs.NewStockServiceClient(stock)})

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := guarding.Verify(ctx, server); err != nil {
		return err
	}
	listener, err := net.Listen("unix", strings.TrimPrefix(os.Getenv("ORDERS_TARGET"), "unix:"))
	if err != nil {
		return err
	}
	go func() { // the end of the input ends the service
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	if err := server.Serve(listener); err != nil {
		return err
	}
	status, _ := client.CacheStatus()
	fmt.Println(status.Hits)
	return nil
}
