package holder

import (
	"sync/atomic"
	"time"
)

const (
	maxPending = 16
	maxGrants  = 16
)

// never is a moment that no clock shows.
var never = Instant{First: -1 << 62, Second: -1 << 62}

// span is when a lease counts: from when its renewal was sent, until it ends.
type span struct{ sent, until Instant }

type grant struct {
	span
	head int64
}

type request struct {
	nonce   int64
	sent    Instant
	applied int64
}

// Lease is a holder's right to answer from memory: how long it lasts and what it depends on
// (rules I2 and I6 of docs/fence.md). It does no I/O and reads no clock.
//
// Its methods are called by one goroutine at a time, except IsLive, which checks call. What ends
// when is published for them by the other methods, after memory is as it must be.
type Lease struct {
	nextNonce  int64
	pending    []request
	grants     []grant
	applied    int64
	epoch      string
	hasStarted bool
	current    span
	published  atomic.Pointer[span]
	guards     Guards
}

// Guards leaves out one guard at a time, so that the conformance driver can be shown to
// notice. The zero value leaves out none.
type Guards struct {
	// CountFromArrival counts a lease from when its grant came.
	CountFromArrival bool
	// IgnoreHead answers under a grant whose changes are not applied yet.
	IgnoreHead bool
	// IgnoreEpoch goes on with what is remembered of another epoch.
	IgnoreEpoch bool
	// KeepOvertakenFills remembers facts that a change has overtaken.
	KeepOvertakenFills bool
	// AcknowledgeFirst acknowledges a change before it is applied.
	AcknowledgeFirst bool
	// IgnoreUnknownChanges applies a change of an unknown kind as if it were nothing.
	IgnoreUnknownChanges bool
	// IgnoreGaps applies a revision although one before it is missing.
	IgnoreGaps bool
	// KeepAcrossStreams keeps memory and lease when another stream begins.
	KeepAcrossStreams bool
}

// NewLease is a lease before the first grant.
func NewLease(guards Guards) *Lease {
	lease := &Lease{nextNonce: 1, current: span{until: never}, guards: guards}
	lease.publish()
	return lease
}

// Applied is the revision up to which every change is applied; 0 before the first grant.
func (l *Lease) Applied() int64 { return l.applied }

// HasStarted says whether a first grant has told from which revision on changes are followed.
func (l *Lease) HasStarted() bool { return l.hasStarted }

// IsLive says whether the holder may answer from memory. The reading must be taken for this
// very answer, after the question came.
func (l *Lease) IsLive(now Instant) bool {
	counts := l.published.Load()
	// Where the second clock is the wall clock: one that was set back ends the lease, too.
	return now.Before(counts.until) && now.Second >= counts.sent.Second
}

// Until is when the right to answer ends.
func (l *Lease) Until() Instant { return l.published.Load().until }

// Request begins a renewal and returns the nonce to send. The reading must be taken before the
// renewal is sent: a grant can lie in a buffer for any time, so it is counted from there.
func (l *Lease) Request(now Instant) int64 {
	nonce := l.nextNonce
	l.nextNonce++
	l.pending = append(l.pending, request{nonce, now, l.applied})
	if len(l.pending) > maxPending {
		l.pending = l.pending[1:]
	}
	return nonce
}

// Grant takes note of a grant, whose ttl counts from when its renewal was sent. One that was not
// asked for, or comes for the second time, is ignored.
//
// It calls forget, before anything can be answered under the grant, if what is remembered does not
// count any more: this is the first grant, or one of another epoch, or of a head that lies behind
// what had been applied when it was asked for.
func (l *Lease) Grant(now Instant, nonce int64, ttl time.Duration, head int64, epoch string, forget func()) {
	asked, ok := l.takePending(nonce)
	if !ok {
		return
	}
	if l.guards.CountFromArrival {
		asked.sent = now
	}
	otherEpoch := epoch != l.epoch && !l.guards.IgnoreEpoch
	if !l.hasStarted || otherEpoch || head < asked.applied {
		// With an empty memory every change up to the head is as good as applied.
		l.grants, l.current = nil, span{until: never}
		l.publish()
		l.applied, l.epoch, l.hasStarted = head, epoch, true
		forget()
	}
	l.grants = append(l.grants, grant{span{asked.sent, asked.sent.Add(ttl)}, head})
	l.extendUntil()
}

func (l *Lease) takePending(nonce int64) (request, bool) {
	for index, one := range l.pending {
		if one.nonce == nonce {
			l.pending = append(l.pending[:index:index], l.pending[index+1:]...)
			return one, true
		}
	}
	return request{}, false
}

// AdvanceTo takes note that every change up to a revision is applied. It is called after they
// are, without a gap.
func (l *Lease) AdvanceTo(revision int64) {
	if l.hasStarted && revision > l.applied {
		l.applied = revision
		l.extendUntil()
	}
}

// Abandon gives up every grant, and those that were asked for. The holder must then forget what it
// remembers; the next grant starts it anew.
func (l *Lease) Abandon() {
	l.pending, l.grants, l.current = nil, nil, span{until: never}
	l.applied, l.epoch, l.hasStarted = 0, "", false
	l.publish()
}

func (l *Lease) extendUntil() {
	open := l.grants[:0]
	for _, one := range l.grants {
		switch {
		case one.head > l.applied && !l.guards.IgnoreHead:
			open = append(open, one)
		case one.until.First > l.current.until.First:
			// Both clocks of one grant count together: mixing two grants could outlast both.
			l.current = one.span
		}
	}
	l.grants = open[max(0, len(open)-maxGrants):]
	l.publish()
}

func (l *Lease) publish() {
	counts := l.current
	l.published.Store(&counts)
}
