// Package holder answers checks from memory, under a lease (docs/fence.md, sections on rules
// I1 to I8). It knows nothing of the client's API.
package holder

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = time.Second
	// After a refusal something has to be changed by somebody first.
	refusedBackoff = 5 * time.Second
	// What a server may ask a holder to wait.
	longestRetryAfter = time.Minute
	protocolVersion   = 1
	connectTimeout    = 2 * time.Second
	keyspacesTimeout  = 5 * time.Second
	keyspacesPause    = time.Second
	reportInterval    = 5 * time.Second
	reportTimeout     = 5 * time.Second
	lastReportTime    = time.Second
	// usesInReport is half of what a server takes, which is well within the largest message.
	usesInReport = 5_000
	// letIn is a header of the answer, which a refusal does not have.
	letIn = "x-keyfence-let-in"
)

var (
	errRefused = errors.New("the server refuses the stream")
	errEnded   = errors.New("the server has taken the lease back")
)

// Options say how a holder is to be.
type Options struct {
	MaxKeys int
	Logger  *slog.Logger
}

// Status tells how a holder is doing.
type Status struct {
	Live            bool
	LeaseLeft       time.Duration
	AppliedRevision int64
	Keys            int
	Hits            int64
	DiscardedFills  int64
	Resets          int64
}

// Holder keeps a [Core] in step with the server, from the first check on that finds no lease.
type Holder struct {
	core    *Core
	hello   *keyfencev1.Hello
	connect func() (*grpc.ClientConn, error)
	server  atomic.Pointer[server]
	logger  *slog.Logger
	start   sync.Once
	cancel  context.CancelFunc
	context context.Context
	stopped chan struct{}
	// keyspacesWanted holds at most one wish.
	keyspacesWanted chan struct{}
}

// server is the one that the holder's stream leads to, or did last. Its facts are asked for there,
// too: another server may not know yet of a change that the holder has applied.
type server struct {
	keyfencev1.ReplicationServiceClient
	conn *grpc.ClientConn
}

// Start makes a holder. It has connections of its own, one at a time: connect makes another one for
// each stream, to the next server if there are several. So no connection that others have failed on
// makes the holder wait.
func Start(connect func() (*grpc.ClientConn, error), options Options) *Holder {
	running, cancel := context.WithCancel(context.Background())
	return &Holder{
		core:            NewCore(options.MaxKeys, Guards{}, Now, time.Now),
		hello:           newHello(),
		connect:         connect,
		logger:          options.Logger,
		cancel:          cancel,
		context:         running,
		stopped:         make(chan struct{}),
		keyspacesWanted: make(chan struct{}, 1),
	}
}

// Check answers from memory, if need be after asking the server for facts. False: the server
// must be asked the check itself.
func (h *Holder) Check(ctx context.Context, question Question) (Answer, bool) {
	if answer, ok := h.core.Answer(question); ok {
		return answer, true
	}
	h.start.Do(func() { go h.run() })
	fill, request := h.core.BeginFill(question.APIKey)
	if fill == nil {
		return Answer{}, false
	}
	response, err := h.server.Load().FetchFacts(ctx, request)
	if err != nil {
		response = nil
	}
	if !h.core.EndFill(fill, question.APIKey, response) {
		return Answer{}, false
	}
	return h.core.Answer(question)
}

// Status tells how it is doing.
func (h *Holder) Status() Status {
	memory := h.core.memory
	left := max(0, h.core.now().Until(h.core.lease.Until()))
	memory.mu.Lock()
	defer memory.mu.Unlock()
	hits := memory.uses.total + h.core.denials.Load()
	for place := memory.queue.Front(); place != nil; place = place.Next() {
		known := place.Value.(*entry)
		hits += known.uses.Load() - known.collected
	}
	return Status{
		Live:            left > 0,
		LeaseLeft:       left,
		AppliedRevision: memory.applied.Load(),
		Keys:            memory.queue.Len(),
		Hits:            hits,
		DiscardedFills:  memory.discardedFills.Load(),
		Resets:          memory.resets.Load(),
	}
}

// Close reports the last uses, gives up the lease and waits until that is done.
func (h *Holder) Close() {
	h.core.Abandon()
	h.cancel()
	h.start.Do(func() { close(h.stopped) })
	<-h.stopped
	ctx, cancel := context.WithTimeout(context.Background(), lastReportTime)
	defer cancel()
	h.report(ctx)
	if server := h.server.Load(); server != nil {
		_ = server.conn.Close()
	}
}

func (h *Holder) run() {
	defer close(h.stopped)
	var others sync.WaitGroup
	others.Go(h.keepKeyspaces)
	others.Go(h.keepReporting)
	defer others.Wait()
	pauses := pauses{next: firstBackoff}
	for h.context.Err() == nil {
		granted, err := h.follow()
		if h.context.Err() != nil {
			break
		}
		h.logger.Info("cache_out_of_step", "cause", err.Error())
		part := 0.5 + mathrand.Float64()/2 //nolint:gosec // no secret
		if !sleep(h.context, pauses.after(granted, err, part)) {
			break
		}
	}
	// Close may have come while a lease was being granted.
	h.core.Abandon()
}

// pauses says how long to wait after each stream that has ended: a little longer each time.
type pauses struct{ next time.Duration }

// after says how long to wait now. Part, from 0.5 to 1, makes it never as long as for others.
func (p *pauses) after(granted bool, err error, part float64) time.Duration {
	backoff := p.next
	if granted {
		backoff = firstBackoff
	}
	p.next = min(lastBackoff, 2*backoff)
	if errors.Is(err, errRefused) {
		backoff = refusedBackoff
	}
	return max(time.Duration(float64(backoff)*part), time.Duration(float64(retryAfter(err))*(0.5+part)))
}

// coded is an error of a server that shows its code alone.
type coded struct{ failure error }

func (c coded) Error() string { return status.Code(c.failure).String() }

func (c coded) Unwrap() error { return c.failure }

// retryAfter says how long a server that has ended or refused a stream asks to be left alone.
func retryAfter(err error) time.Duration {
	failed, ok := status.FromError(err)
	if !ok {
		return 0
	}
	for _, detail := range failed.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			seconds, err := strconv.ParseFloat(info.Metadata["retry_after_seconds"], 64)
			if err == nil && seconds > 0 {
				return min(longestRetryAfter, time.Duration(seconds*float64(time.Second)))
			}
		}
	}
	return 0
}

// follow serves one stream, until it breaks. It says whether a lease was granted on it. While no
// grantor can be reached, the lease that there is goes on counting.
func (h *Holder) follow() (granted bool, err error) {
	ctx, cancel := context.WithCancelCause(h.context)
	defer cancel(nil)
	stream, err := h.open(ctx, cancel)
	if err != nil {
		return false, err
	}
	h.core.Begin()
	var (
		working sync.WaitGroup
		heard   = make(chan struct{}, 1)
		ended   = make(chan struct{}, 1)
		moved   = make(chan struct{}, 1)
	)
	working.Go(func() { cancel(h.send(ctx, stream, moved, ended)) })
	working.Go(func() { cancel(h.requireAnswers(ctx, heard)) })
	for err == nil {
		var message *keyfencev1.SyncResponse
		if message, err = stream.Recv(); err != nil {
			break
		}
		if message.GetLease() != nil {
			granted = granted || message.GetLease().Ttl.AsDuration() > 0
			wish(heard)
		}
		var fetchKeyspaces bool
		if fetchKeyspaces, err = h.core.Take(message); fetchKeyspaces {
			wish(h.keyspacesWanted)
		}
		if message.GetEnd() != nil {
			wish(ended)
		}
		wish(moved)
	}
	cancel(err)
	working.Wait()
	return granted, context.Cause(ctx)
}

// open opens a stream and waits until the server lets the holder in. One that can be reached may
// still refuse it, for example while it stops.
func (h *Holder) open(ctx context.Context, cancel context.CancelCauseFunc) (keyfencev1.ReplicationService_SyncClient, error) {
	expired := time.AfterFunc(connectTimeout, func() {
		cancel(errors.New("the server cannot be reached, or a proxy in between removes the header " + letIn))
	})
	defer expired.Stop()
	conn, err := h.connect()
	if err != nil {
		return nil, err
	}
	server := &server{keyfencev1.NewReplicationServiceClient(conn), conn}
	if before := h.server.Swap(server); before != nil {
		_ = before.conn.Close()
	}
	stream, err := server.Sync(ctx, grpc.WaitForReady(true))
	if err == nil {
		header, failure := stream.Header()
		if err = failure; err == nil && len(header.Get(letIn)) == 0 {
			if _, err = stream.Recv(); err == nil {
				err = errors.New("no header " + letIn)
			}
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		switch status.Code(err) {
		case codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition:
			return nil, fmt.Errorf("%w: %w", errRefused, coded{err})
		default:
			return nil, fmt.Errorf("the server does not take the stream: %w", coded{err})
		}
	}
	return stream, nil
}

func (h *Holder) send(ctx context.Context, stream keyfencev1.ReplicationService_SyncClient, moved, ended <-chan struct{}) error {
	if err := stream.Send(&keyfencev1.SyncRequest{Message: &keyfencev1.SyncRequest_Hello{Hello: h.hello}}); err != nil {
		return err
	}
	renew := time.NewTimer(0)
	defer renew.Stop()
	for {
		var next *keyfencev1.Renew
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			// The last message of the stream, which the grantor then ends.
			return errors.Join(errEnded, stream.Send(&keyfencev1.SyncRequest{
				Message: &keyfencev1.SyncRequest_GivenUp{GivenUp: &keyfencev1.GivenUp{}},
			}), stream.CloseSend())
		case <-renew.C:
			next = h.core.Renewal()
			interval, _ := h.core.pace()
			renew.Reset(interval)
		case <-moved:
			if next = h.core.Acknowledgement(); next == nil {
				continue
			}
		}
		if err := stream.Send(&keyfencev1.SyncRequest{Message: &keyfencev1.SyncRequest_Renew{Renew: next}}); err != nil {
			return err
		}
	}
}

// requireAnswers gives a stream up that is silent: a connection can be dead for minutes before
// anything says so.
func (h *Holder) requireAnswers(ctx context.Context, heard <-chan struct{}) error {
	for {
		_, patience := h.core.pace()
		silent := time.NewTimer(patience)
		select {
		case <-ctx.Done():
			silent.Stop()
			return ctx.Err()
		case <-heard:
			silent.Stop()
		case <-silent.C:
			return errors.New("the server does not answer")
		}
	}
}

// keepKeyspaces learns which scopes are registered, again whenever a keyspace has changed. Until
// it is known, denials for missing scopes come from the server.
func (h *Holder) keepKeyspaces() {
	for {
		select {
		case <-h.context.Done():
			return
		case <-h.keyspacesWanted:
		}
		fill := h.core.memory.beginFill()
		ctx, cancel := context.WithTimeout(h.context, keyspacesTimeout)
		response, err := h.fetchKeyspaces(ctx, fill.startedAt)
		cancel()
		if err != nil {
			h.core.memory.dropFill(fill)
		}
		if err != nil || !h.core.memory.endKeyspacesFill(fill, response) {
			if !sleep(h.context, keyspacesPause) {
				return
			}
			wish(h.keyspacesWanted)
		}
	}
}

// fetchKeyspaces fetches all pages, and makes one answer of them that is as old as the oldest. If
// the store has failed over between two of them, the epoch of the answer is none.
func (h *Holder) fetchKeyspaces(ctx context.Context, atLeast int64) (*keyfencev1.FetchKeyspacesResponse, error) {
	request := &keyfencev1.FetchKeyspacesRequest{AtLeastRevision: atLeast}
	// All pages come from one server.
	server := h.server.Load()
	whole, err := server.FetchKeyspaces(ctx, request)
	for err == nil && whole.NextPageToken != "" {
		request.PageToken = whole.NextPageToken
		var page *keyfencev1.FetchKeyspacesResponse
		if page, err = server.FetchKeyspaces(ctx, request); err != nil {
			break
		}
		whole.Keyspaces = append(whole.Keyspaces, page.Keyspaces...)
		whole.NextPageToken = page.NextPageToken
		whole.Revision = min(whole.Revision, page.Revision)
		if page.Epoch != whole.Epoch {
			whole.Epoch = ""
		}
	}
	return whole, err
}

func (h *Holder) keepReporting() {
	for sleep(h.context, reportInterval) {
		ctx, cancel := context.WithTimeout(h.context, reportTimeout)
		h.report(ctx)
		cancel()
	}
}

// report reports how keys were used. What could not be told is kept. If a report has arrived all
// the same it counts twice: a number that is a little too high misleads less than a missing one.
func (h *Holder) report(ctx context.Context) {
	left := h.core.memory.takeUses()
	for len(left) > 0 {
		next := left[:min(len(left), usesInReport)]
		_, err := h.server.Load().ReportUses(ctx, reportOf(next))
		// What the server takes for faulty once, it does again.
		if err != nil && status.Code(err) != codes.InvalidArgument {
			h.logger.Info("uses_not_reported", "cause", status.Code(err).String())
			break
		}
		left = left[len(next):]
	}
	h.core.memory.putBackUses(left)
}

// newHello names the holder, by an id that it keeps on all its streams.
func newHello() *keyfencev1.Hello {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: the process would have ended
	host, _ := os.Hostname()
	name := fmt.Sprintf("%d on %s", os.Getpid(), host)
	return &keyfencev1.Hello{
		HolderId:        "sdk_" + hex.EncodeToString(id[:]),
		Kind:            keyfencev1.HolderKind_HOLDER_KIND_SDK,
		DisplayName:     name[:min(len(name), 63)],
		ProtocolVersion: protocolVersion,
	}
}

// wish leaves a wish in a channel that holds one.
func wish(channel chan<- struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// sleep says whether the time has passed before the context ended.
func sleep(ctx context.Context, duration time.Duration) bool {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
