/*
 * Put before the C library, gives a process a wall clock and a boot clock that the test can step while it
 * runs. The steps, in seconds, are in a file of two numbers that is mapped once at the start: so it opens nothing later,
 * which a sandbox would forbid, and works for a process that is long at work.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct steps {
    volatile int64_t wall;
    volatile int64_t boot;
};

static const struct steps none;
static const struct steps *steps = &none;

__attribute__((constructor)) static void map_steps(void) {
    int file = open("/etc/stepped-clock", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *place = mmap(NULL, sizeof *steps, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (place != MAP_FAILED)
        steps = place;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next)
        next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += steps->wall;
    if (result == 0 && clock == CLOCK_BOOTTIME)
        time->tv_sec += steps->boot;
    return result;
}

/* The kernel's boot clock was not stepped: a time by the stepped one is another by its own. */
int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old) {
    static int (*next)(int, int, const struct itimerspec *, struct itimerspec *);
    if (!next)
        next = (int (*)(int, int, const struct itimerspec *, struct itimerspec *))dlsym(RTLD_NEXT, "timerfd_settime");
    struct itimerspec moved = *value;
    int is_set = moved.it_value.tv_sec != 0 || moved.it_value.tv_nsec != 0;
    if ((flags & TFD_TIMER_ABSTIME) && is_set) {
        moved.it_value.tv_sec -= steps->boot;
        if (moved.it_value.tv_sec < 0)
            moved.it_value = (struct timespec){ .tv_sec = 0, .tv_nsec = 1 };
    }
    return next(fd, flags, &moved, old);
}
