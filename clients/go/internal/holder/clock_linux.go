package holder

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Now reads the clock that goes on while the machine sleeps.
//
// Reading it never waits, so the scheduler need not be told of the call, which unix.ClockGettime
// does and which is a tenth of a check from memory.
func Now() Instant {
	var now unix.Timespec
	_, _, fault := syscall.RawSyscall(
		unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&now)), 0,
	)
	if fault != 0 {
		return fallback()
	}
	reading := now.Nano()
	return Instant{reading, reading}
}
