package keyfence

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const (
	// DefaultBatchChecks is how many checks one message carries at most, unless said otherwise.
	DefaultBatchChecks = 64
	maxBatchChecks     = 256
	// A batch may have 512 KiB. A very long presented key must not fail the other checks of its
	// message, so a check that is larger than this is sent alone.
	maxBatchedCheckBytes = 1536
)

// Batching says how checks that are under way at the same time share messages. An error of such a
// check has no Violations, which batches do not carry; its Message names the fields.
type Batching struct {
	// MaxChecks is how many checks one message carries at most: 1 to 256.
	// Zero: DefaultBatchChecks.
	MaxChecks int
}

// batcher sends one batch at a time, and has the checks that come meanwhile wait for the next
// one. So a lone check is sent at once, and the more there are, the more share a message. A batch
// that is full does not wait for the one that is under way.
type batcher struct {
	checks  keyfencev1.AuthorizationServiceClient
	max     int
	timeout time.Duration

	mu        sync.Mutex
	waiting   []*waitingCheck
	isSending bool
}

type waitingCheck struct {
	ctx     context.Context
	request *keyfencev1.CheckScopeRequest
	result  chan Result
}

func newBatcher(checks keyfencev1.AuthorizationServiceClient, maxChecks int, timeout time.Duration) *batcher {
	return &batcher{checks: checks, max: maxChecks, timeout: timeout}
}

func (b *batcher) check(ctx context.Context, request *keyfencev1.CheckScopeRequest) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	if proto.Size(request) > maxBatchedCheckBytes {
		return b.alone(ctx, request)
	}
	waiting := &waitingCheck{ctx: ctx, request: request, result: make(chan Result, 1)}
	b.mu.Lock()
	b.waiting = append(b.waiting, waiting)
	switch {
	case !b.isSending:
		b.isSending = true
		go b.send()
	case len(b.waiting) >= b.max:
		go b.sendOne(b.take())
	}
	b.mu.Unlock()
	select {
	case result := <-waiting.result:
		if wasLeftOut(result.Err) {
			return b.alone(ctx, request)
		}
		return result.Verdict, result.Err
	case <-ctx.Done():
		code := codes.Canceled
		if ctx.Err() == context.DeadlineExceeded { //nolint:errorlint // a context's error is never wrapped
			code = codes.DeadlineExceeded
		}
		return Verdict{}, &Error{Code: code, Message: "the check was not answered in time"}
	}
}

func (b *batcher) alone(ctx context.Context, request *keyfencev1.CheckScopeRequest) (Verdict, error) {
	response, err := b.checks.CheckScope(ctx, request)
	if err != nil {
		return Verdict{}, err
	}
	return scopeVerdict(response), nil
}

// wasLeftOut tells whether the server has not looked at the check, because the answers of its batch
// were too large. It counts against no rate limit then, and may be sent alone.
func wasLeftOut(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.Code == codes.ResourceExhausted && failed.Metadata["limit"] == "answer_bytes"
}

// take has the checks of the next batch. Called under the lock.
func (b *batcher) take() []*waitingCheck {
	count := min(len(b.waiting), b.max)
	batch := b.waiting[:count:count]
	b.waiting = b.waiting[count:]
	return batch
}

func (b *batcher) send() {
	for {
		// Callers that have just been answered, or begin now, come along if they have their turn first.
		runtime.Gosched()
		b.mu.Lock()
		if len(b.waiting) == 0 {
			b.isSending = false
			b.mu.Unlock()
			return
		}
		batch := b.take()
		b.mu.Unlock()
		b.sendOne(batch)
	}
}

func (b *batcher) sendOne(batch []*waitingCheck) {
	var latest time.Time
	request := &keyfencev1.BatchCheckScopeRequest{}
	kept := batch[:0]
	for _, one := range batch {
		if one.ctx.Err() != nil {
			continue // its caller has gone
		}
		if deadline, _ := one.ctx.Deadline(); deadline.After(latest) {
			latest = deadline
		}
		kept = append(kept, one)
		request.Checks = append(request.Checks, one.request)
	}
	if len(kept) == 0 {
		return
	}
	// One caller's giving up must not fail the others' checks.
	ctx, cancel := context.WithDeadline(context.Background(), latest)
	defer cancel()
	results, err := batchResults(request)(b.checks.BatchCheckScope(ctx, request))
	for index, one := range kept {
		if err != nil {
			one.result <- Result{Err: err}
		} else {
			one.result <- results[index]
		}
	}
}

// batchResults reads a response to the request: a result for each of its checks, in order.
func batchResults(
	request *keyfencev1.BatchCheckScopeRequest,
) func(*keyfencev1.BatchCheckScopeResponse, error) ([]Result, error) {
	return func(response *keyfencev1.BatchCheckScopeResponse, err error) ([]Result, error) {
		if err != nil {
			return nil, err
		}
		if len(response.Results) != len(request.Checks) {
			return nil, &Error{Code: codes.Internal, Message: "the server answered another number of checks than were asked"}
		}
		results := make([]Result, len(response.Results))
		for index, one := range response.Results {
			if fault := one.GetError(); fault != nil {
				results[index].Err = errorOfCheck(fault.Code, fault.Reason, fault.Message, fault.Metadata, request.Checks[index].ApiKey)
			} else if one.GetResponse() == nil {
				results[index].Err = &Error{Code: codes.Internal, Message: "the server answered a check with neither a verdict nor an error"}
			} else {
				results[index].Verdict = scopeVerdict(one.GetResponse())
			}
		}
		return results, nil
	}
}
