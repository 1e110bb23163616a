/* How many processes of this sandbox the kernel has killed for want of memory, by the counter of its control
 * group: version 1 memory.oom_control, version 2 memory.events, each with a line "oom_kill N".
 *
 * The bubblewrap driver gives it as a descriptor. In a container with a control group of its own as the root
 * of /sys/fs/cgroup it is found there; elsewhere nothing is known, and a kill stays a kill. */
#include "tppd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int counter = -1;

void memory_open(int fd) {
    static const char *const names[] = {
        "/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events",
    };
    for (size_t i = 0; fd < 0 && i < sizeof names / sizeof *names; i++) fd = open(names[i], O_RDONLY | O_CLOEXEC);
    if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
    counter = fd;
}

int64_t memory_kills(void) {
    char text[1024];
    ssize_t n = counter < 0 ? -1 : pread(counter, text, sizeof text - 1, 0);
    if (n <= 0) return 0;
    text[n] = 0;
    const char *at = strstr(text, "oom_kill "); /* not oom_kill_disable, not oom_group_kill */
    return at ? strtoll(at + 9, NULL, 10) : 0;
}
