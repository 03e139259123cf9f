package holder

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

const (
	renewalsPerLease = 3 // unless the grantor says when to renew
	firstInterval    = 500 * time.Millisecond
	// What is left of a lease can be very little, and asking without a pause brings no more.
	shortestInterval = 100 * time.Millisecond
	// Without an answer for as long as a lease lasts, a stream is given up.
	leastPatience = time.Second
)

// Question is a check.
type Question struct {
	APIKey          string
	RequiredScopes  []string
	Keyspace        string
	ClientAddress   string
	AtLeastRevision int64
}

// Answer is what a check is answered with from memory.
type Answer struct {
	Reason        keyfencev1.Reason
	MissingScopes []string
	Principal     *keyfencev1.Principal
	Revision      int64
}

// Core is a holder without goroutines, connections and clocks: what it makes of what its grantor
// says, and what it answers. The conformance driver speaks to it, and so does [Holder].
//
// Answer, BeginFill and EndFill can be called from any goroutine, and the rest by one at a time.
type Core struct {
	memory *Memory
	guards Guards
	// now reads the clock that leases are counted by, wall the one that keys expire by.
	now     func() Instant
	wall    func() time.Time
	denials atomic.Int64

	mu       sync.Mutex // guards all that follows; checks do not take it
	lease    *Lease
	told     int64
	heard    int64
	interval time.Duration
	patience time.Duration
}

// NewCore is a holder that remembers nothing and has no lease.
func NewCore(maxKeys int, guards Guards, now func() Instant, wall func() time.Time) *Core {
	return &Core{
		memory:   NewMemory(maxKeys, guards),
		guards:   guards,
		now:      now,
		wall:     wall,
		lease:    NewLease(guards),
		interval: firstInterval,
		patience: leastPatience,
	}
}

// Begin is called when a grantor has let the holder in, before it says anything on the stream:
// what was granted and remembered is given up, so that the grantor need not wait for it.
func (c *Core) Begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told, c.heard = 0, 0
	if c.guards.KeepAcrossStreams {
		return
	}
	c.lease.Abandon()
	c.memory.forgetEverything(0, "")
}

// Abandon gives up the lease and everything that is remembered.
func (c *Core) Abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease.Abandon()
	c.memory.forgetEverything(0, "")
}

// Renewal is the next request for a lease, to be sent after this returns.
func (c *Core) Renewal() *keyfencev1.Renew {
	c.mu.Lock()
	defer c.mu.Unlock()
	nonce := c.lease.Request(c.now())
	return &keyfencev1.Renew{Nonce: nonce, AppliedRevision: c.acknowledged()}
}

// Acknowledgement is what there is to acknowledge; nil if it was told before.
func (c *Core) Acknowledgement() *keyfencev1.Renew {
	c.mu.Lock()
	defer c.mu.Unlock()
	applied := c.acknowledged()
	if applied <= c.told {
		return nil
	}
	c.told = applied
	return &keyfencev1.Renew{AppliedRevision: applied}
}

func (c *Core) acknowledged() int64 {
	if !c.lease.HasStarted() {
		return 0
	}
	if c.guards.AcknowledgeFirst {
		return max(c.heard, c.lease.Applied())
	}
	return c.lease.Applied()
}

// Take does what the grantor says. It says whether the keyspaces must be fetched again. With an
// error, the stream must be given up.
func (c *Core) Take(message *keyfencev1.SyncResponse) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case message.GetLease() != nil:
		return c.takeLease(message.GetLease()), nil
	case message.GetChanges() != nil:
		return c.takeChanges(message.GetChanges())
	case message.GetEnd() != nil:
		// The grantor takes every lease back: what is remembered goes before it is told so.
		c.lease.Abandon()
		c.memory.forgetEverything(0, "")
		return false, nil
	default:
		return false, nil
	}
}

func (c *Core) takeLease(lease *keyfencev1.Lease) bool {
	ttl := lease.Ttl.AsDuration()
	if ttl <= 0 {
		return false
	}
	hasForgotten := false
	c.heard = max(c.heard, lease.HeadRevision)
	c.lease.Grant(c.now(), lease.Nonce, ttl, lease.HeadRevision, lease.Epoch, func() {
		c.memory.forgetEverything(lease.HeadRevision, lease.Epoch)
		hasForgotten = true
	})
	c.interval = lease.RenewAfter.AsDuration()
	if c.interval <= 0 {
		c.interval = ttl / renewalsPerLease
	}
	c.interval = max(shortestInterval, c.interval)
	c.patience = max(leastPatience, ttl)
	return hasForgotten
}

func (c *Core) takeChanges(changes *keyfencev1.RevisionChanges) (bool, error) {
	applied := c.lease.Applied()
	if !c.lease.HasStarted() || changes.Revision <= applied {
		// Before the first lease there is nothing to forget, and its head has them all.
		return false, nil
	}
	first := changes.FirstRevision
	if first == 0 {
		first = changes.Revision
	}
	if first > applied+1 && !c.guards.IgnoreGaps {
		return false, fmt.Errorf("revision %d came after %d: some are missing", first, applied)
	}
	c.heard = max(c.heard, changes.Revision)
	anyKeyspace := c.memory.apply(changes)
	c.lease.AdvanceTo(changes.Revision)
	return anyKeyspace, nil
}

// pace is how long to wait between renewals, and for an answer to any of them.
func (c *Core) pace() (interval, patience time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interval, c.patience
}

// Answer answers a check from memory. False: the server must be asked.
func (c *Core) Answer(question Question) (Answer, bool) {
	// Read before the entry, which is then at least as new, whatever is applied meanwhile.
	revision := c.memory.applied.Load()
	// The clock is read for this very answer, after the question came (rule I2).
	if question.AtLeastRevision > revision || !c.lease.IsLive(c.now()) {
		return Answer{}, false
	}
	known := c.memory.find(question.APIKey)
	if known == nil || known.isCounted || (question.Keyspace != "" && question.Keyspace != known.principal.Keyspace) {
		return Answer{}, false
	}
	missing := known.missing(question.RequiredScopes)
	if len(missing) > 0 && !c.memory.registers(known.principal.Keyspace, missing) {
		// Whether these scopes exist at all, the server knows.
		return Answer{}, false
	}
	now := c.wall()
	reason, ok := known.reason(now, question.ClientAddress)
	if !ok {
		return Answer{}, false
	}
	answer := Answer{Reason: reason, Principal: known.principal, Revision: revision}
	switch {
	case reason != keyfencev1.Reason_REASON_OK:
		c.denials.Add(1)
	case len(missing) > 0:
		answer.Reason, answer.MissingScopes = keyfencev1.Reason_REASON_SCOPE_MISSING, missing
		c.denials.Add(1)
	default:
		known.use(now, question.ClientAddress)
	}
	return answer, true
}

// BeginFill is called when a check could not be answered. Nil: to ask for facts would not help.
func (c *Core) BeginFill(apiKey string) (*Fill, *keyfencev1.FetchFactsRequest) {
	if apiKey == "" || !c.lease.IsLive(c.now()) || c.memory.find(apiKey) != nil {
		return nil, nil
	}
	fill := c.memory.beginFill()
	return fill, &keyfencev1.FetchFactsRequest{ApiKey: apiKey, AtLeastRevision: fill.startedAt}
}

// EndFill takes the server's answer; nil if there was none. It says whether the check can be
// answered now.
func (c *Core) EndFill(fill *Fill, apiKey string, response *keyfencev1.FetchFactsResponse) bool {
	if response == nil {
		c.memory.dropFill(fill)
		return false
	}
	return c.memory.endFill(fill, apiKey, response)
}

// Remembered is how many keys are in memory.
func (c *Core) Remembered() int { return c.memory.size() }
