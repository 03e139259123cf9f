/* A wall clock that can be stepped, for one process and its children.

   Loaded before libc (LD_PRELOAD), it adds what a file says to the time of day, and leaves
   every other clock alone. Time namespaces cannot do this: they do not have this clock. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static const volatile int64_t none = 0;
static const volatile int64_t *ahead = &none;
static int (*gettime_of_libc)(clockid_t, struct timespec *);
static long (*syscall_of_libc)(long, ...);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("TORTURE_WALL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    gettime_of_libc = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    syscall_of_libc = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED)
        ahead = page;
    close(file);
}

static void add(struct timespec *when, int64_t nanoseconds)
{
    int64_t sum = when->tv_sec * SECOND + when->tv_nsec + nanoseconds;
    when->tv_sec = sum / SECOND;
    when->tv_nsec = sum % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!gettime_of_libc)
        begin();
    int failed = gettime_of_libc(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        add(now, *ahead);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}

/* Who waits until a time of day waits by the kernel's clock, which was not stepped. */
long syscall(long number, ...)
{
    long arguments[6];
    struct timespec until;
    va_list rest;
    va_start(rest, number);
    for (int at = 0; at < 6; at++)
        arguments[at] = va_arg(rest, long);
    va_end(rest);
    if (!syscall_of_libc)
        begin();
    if (number == SYS_futex && (arguments[1] & FUTEX_CLOCK_REALTIME) && arguments[3]) {
        until = *(const struct timespec *)arguments[3];
        add(&until, -*ahead);
        arguments[3] = (long)&until;
    }
    return syscall_of_libc(number, arguments[0], arguments[1], arguments[2], arguments[3],
                           arguments[4], arguments[5]);
}
