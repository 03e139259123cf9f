package keyfence

import "time"

// DefaultMaxKeys is how many keys a cache remembers, unless said otherwise.
const DefaultMaxKeys = 10_000

// Cache asks for checks to be answered from memory: see [WithCache].
type Cache struct {
	// MaxKeys is how many keys to remember, those that were asked for lately.
	// Zero: DefaultMaxKeys.
	MaxKeys int
}

// CacheStatus tells how a client's cache is doing.
type CacheStatus struct {
	// Live is whether checks may be answered from memory now.
	Live bool
	// LeaseLeft is how long that lasts if nothing more is heard; zero if it has ended.
	LeaseLeft time.Duration
	// AppliedRevision is the one up to which every change is applied.
	AppliedRevision int64
	// Keys is how many are remembered.
	Keys int
	// Hits is how many checks were answered from memory.
	Hits int64
	// DiscardedFills is how often what the server told of a key was not remembered, because
	// something had changed meanwhile.
	DiscardedFills int64
	// Resets is how often everything had to be forgotten, because the connection was lost.
	Resets int64
}

// CacheStatus tells how the cache is doing; false if the client has none.
func (c *Client) CacheStatus() (CacheStatus, bool) {
	if c.holder == nil {
		return CacheStatus{}, false
	}
	return CacheStatus(c.holder.Status()), true
}
