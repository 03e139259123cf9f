package holder

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	keyfencev1 "github.com/keyfence/keyfence/clients/go/keyfence/v1"
)

// maxUsedKeys bounds what is kept while the server is away. What comes beyond is not reported.
const maxUsedKeys = 100_000

// use is how a key was used, on the day of the last time.
type use struct {
	keyID    string
	lastUsed int64 // nanoseconds since the epoch
	address  string
	count    int64
}

type usePlace struct {
	keyID string
	day   string
}

func (u use) day() string { return time.Unix(0, u.lastUsed).UTC().Format(time.DateOnly) }

// uses is what is to be reported. Memory's lock guards it.
type uses struct {
	noted map[usePlace]use
	total int64
}

func (u *uses) note(one use) {
	u.total += one.count
	u.add(one)
}

func (u *uses) add(one use) {
	if u.noted == nil {
		u.noted = map[usePlace]use{}
	}
	place := usePlace{one.keyID, one.day()}
	known, ok := u.noted[place]
	switch {
	case ok:
		one.count += known.count
		if known.lastUsed > one.lastUsed {
			one.lastUsed, one.address = known.lastUsed, known.address
		}
	case len(u.noted) >= maxUsedKeys:
		return
	}
	u.noted[place] = one
}

func (u *uses) take() []use {
	taken := make([]use, 0, len(u.noted))
	for _, one := range u.noted {
		taken = append(taken, one)
	}
	u.noted = nil
	return taken
}

func reportOf(taken []use) *keyfencev1.ReportUsesRequest {
	report := &keyfencev1.ReportUsesRequest{}
	for _, one := range taken {
		address := one.address
		if parsed, err := netip.ParseAddr(address); err == nil {
			address = parsed.Unmap().String()
		}
		report.Uses = append(report.Uses, &keyfencev1.ReportedUse{
			KeyId:           one.keyID,
			Day:             one.day(),
			LastUsedTime:    timestamppb.New(time.Unix(0, one.lastUsed)),
			LastUsedAddress: address,
			Count:           one.count,
		})
	}
	return report
}
