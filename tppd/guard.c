/* `tppd guard PID UID GID PROGRAM…`: PROGRAM beside the sandbox whose process 1 is PID, for as long as that lives.
 *
 * It is what connects the sandbox's network (pasta), told by two more arguments where that is: `--userns` the
 * user namespace that owns it, `--netns` itself. Started again when it ends, after a second that doubles up to a
 * minute. Runs on the host as UID:GID (0: as it is), to whom the sandbox's namespaces belong. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NS_GET_USERNS 0xb701
#define STEADY_MS 60000 /* what ran that long is worth a quick restart */

static _Noreturn void fail(const char *what) {
    dprintf(2, "tppd guard: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int process(pid_t pid) { return (int)syscall(434 /* pidfd_open */, pid, 0u); }

static _Noreturn void become(char **argv, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) exit(1);
    execvp(argv[0], argv);
    fail(argv[0]);
}

/* Runs it once; true: the sandbox has ended. */
static bool run(char **argv, int sandbox) {
    pid_t self = getpid(), child = fork();
    if (child < 0) return false;
    if (child == 0) become(argv, self);
    struct pollfd ends[2] = {{.fd = sandbox, .events = POLLIN}, {.fd = process(child), .events = POLLIN}};
    while (poll(ends, 2, -1) < 0 && errno == EINTR) continue;
    if (ends[0].revents) kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    if (ends[1].fd >= 0) close(ends[1].fd);
    return ends[0].revents;
}

int guard(int count, char **words) {
    if (count < 4) return 2;
    char **argv = calloc((size_t)count + 2, sizeof *argv), owner[64], network[64];
    uid_t uid = (uid_t)strtoul(words[1], NULL, 10);
    gid_t gid = (gid_t)strtoul(words[2], NULL, 10);
    if (!argv) abort();
    int sandbox = process((pid_t)atoi(words[0])); /* first: from here on it cannot be another one */
    if (sandbox < 0) fail("the sandbox");
    if (uid && (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0))
        fail("change user");
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* what we hold is opened by way of /proc/<us>/fd */
    snprintf(network, sizeof network, "/proc/%d/ns/net", atoi(words[0]));
    int net = open(network, O_RDONLY | O_CLOEXEC), user = net < 0 ? -1 : ioctl(net, NS_GET_USERNS);
    if (user < 0) fail(network);
    close(net); /* it is opened by its own name, for in that user namespace nothing of ours can be */
    snprintf(owner, sizeof owner, "/proc/%d/fd/%d", (int)getpid(), user);
    int given = count - 3;
    for (int i = 0; i < given; i++) argv[i] = words[3 + i];
    argv[given] = "--userns", argv[given + 1] = owner, argv[given + 2] = "--netns", argv[given + 3] = network;
    struct pollfd end = {.fd = sandbox, .events = POLLIN};
    for (int wait = 1000;; wait = wait < 60000 ? 2 * wait : 60000) {
        int64_t begun = now_ms();
        if (run(argv, sandbox)) return 0;
        if (now_ms() - begun > STEADY_MS) wait = 1000;
        if (poll(&end, 1, wait) > 0) return 0;
    }
}
