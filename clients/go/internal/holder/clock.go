package holder

import "time"

// Instant is a moment on the clocks that leases are counted by. Where a clock of the system
// counts the time that the machine sleeps, both fields are its reading. Elsewhere they are a
// monotonic clock's and the wall clock's, in nanoseconds: one of them notices a sleep, and the
// other that the time was set back.
type Instant struct{ First, Second int64 }

// Add is the moment so much later.
func (i Instant) Add(duration time.Duration) Instant {
	return Instant{i.First + int64(duration), i.Second + int64(duration)}
}

// Before says whether the moment comes before another one by every clock.
func (i Instant) Before(other Instant) bool {
	return i.First < other.First && i.Second < other.Second
}

// Until is the time that is left until another moment, by the clock that leaves the least.
func (i Instant) Until(other Instant) time.Duration {
	return time.Duration(min(other.First-i.First, other.Second-i.Second))
}
