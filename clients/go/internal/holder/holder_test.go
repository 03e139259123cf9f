package holder

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func refusal(t *testing.T, seconds string) error {
	t.Helper()
	told, err := status.New(codes.ResourceExhausted, "later").WithDetails(
		&errdetails.ErrorInfo{Domain: "keyfence", Metadata: map[string]string{"retry_after_seconds": seconds}})
	if err != nil {
		t.Fatal(err)
	}
	return told.Err()
}

// A server that asks to be left alone is, also where the refusal was wrapped.
func TestRetryAfterIsRead(t *testing.T) {
	for _, one := range []struct {
		err  error
		want time.Duration
	}{
		{refusal(t, "7"), 7 * time.Second},
		{fmt.Errorf("%w: %w", errRefused, coded{refusal(t, "7")}), 7 * time.Second},
		{refusal(t, "86400"), longestRetryAfter},
		{refusal(t, "-1"), 0},
		{refusal(t, "soon"), 0},
		{status.Error(codes.Unavailable, "gone"), 0},
		{errors.New("gone"), 0},
	} {
		if got := retryAfter(one.err); got != one.want {
			t.Errorf("retryAfter(%v) is %v, and should be %v", one.err, got, one.want)
		}
	}
}

// A refusal makes the holder wait at once, and not only after the next one.
func TestPausesGrowAndARefusalWaits(t *testing.T) {
	gone, refused := errors.New("gone"), fmt.Errorf("%w: no", errRefused)
	pauses := pauses{next: firstBackoff}
	for number, one := range []struct {
		granted bool
		err     error
		want    time.Duration
	}{
		{false, gone, firstBackoff},
		{false, gone, 2 * firstBackoff},
		{false, refused, refusedBackoff},
		{false, gone, 8 * firstBackoff},
		{false, gone, lastBackoff},
		{false, gone, lastBackoff},
		{true, gone, firstBackoff},
		{false, refusal(t, "7"), 7 * time.Second * 3 / 2},
		{true, refused, refusedBackoff},
	} {
		if got := pauses.after(one.granted, one.err, 1); got != one.want {
			t.Errorf("pause %d is %v, and should be %v", number, got, one.want)
		}
	}
}
