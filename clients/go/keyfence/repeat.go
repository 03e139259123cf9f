package keyfence

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	firstPause  = 50 * time.Millisecond
	pauseFactor = 3
	lastPause   = 450 * time.Millisecond
)

// repeat makes a call again while no server can answer it, after about 50, 150 and then 450 ms each
// time, until its deadline. When no time is left for another attempt, the last error is the call's.
func (c *Client) repeat(ctx context.Context, attempt func() error) error {
	pause := firstPause
	for {
		err := attempt()
		var failed *Error
		if !errors.As(err, &failed) || failed.Code != codes.Unavailable {
			return err
		}
		// Calls that have failed together are not sent again together.
		wait := time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // no secret
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return newError(ctx, status.FromContextError(ctx.Err()).Err(), nil)
		case <-c.closed:
			timer.Stop()
			return ErrClosed
		case <-timer.C:
		}
		pause = min(pauseFactor*pause, lastPause)
	}
}
